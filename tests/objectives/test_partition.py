"""The terms of PICA: golden values, extremes, invariances, gradients (spec, section 14)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.objectives.partition import imbalance, mean_off_diagonal, partition_loss, partition_uncertainty

ks = st.integers(2, 12)
ns = st.integers(2, 40)
seeds = st.integers(0, 10_000)


def probabilities(n: int, k: int, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(n, k, generator=generator, dtype=torch.float64)).softmax(1)


def loss(x: Tensor, y: Tensor) -> Tensor:
    return partition_loss(partition_uncertainty(x, y)) + 2 * imbalance(x)


def slow_uncertainty(x: Tensor, y: Tensor) -> Tensor:
    """Eq. 7-8, entry by entry."""
    (n, k), table = x.shape, torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    for j in range(k):
        for other in range(k):
            product = sum(float(x[i, j] * y[i, other]) for i in range(n))
            lengths = [math.sqrt(sum(float(p[i, c]) ** 2 for i in range(n))) for p, c in ((x, j), (y, other))]
            table[j, other] = product / (max(lengths[0], 1e-12) * max(lengths[1], 1e-12))
    return table


def slow_loss(m: Tensor) -> float:
    """Eq. 9-10."""
    k = len(m)
    return (
        -sum(
            math.log(math.exp(float(m[j, j])) / sum(math.exp(float(m[j, other])) for other in range(k)))
            for j in range(k)
        )
        / k
    )


# Values

Y = torch.tensor([[0.7, 0.3], [0.9, 0.1], [0.4, 0.6], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("x", "m", "certainty", "balance", "whole"),
    [
        (
            [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]],
            [[0.977685, 0.501219], [0.463159, 0.972085]], 0.476872, 0.005008, 0.486889,
        ),
        (
            [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]],
            [[0.902787, 0.784041], [0.662572, 0.907247]], 0.606905, 0.130812, 0.868529,
        ),
    ],
)  # fmt: skip
def test_golden_values(x: list[list[float]], m: list[list[float]], certainty: float, balance: float, whole: float):
    given = torch.tensor(x)
    torch.testing.assert_close(partition_uncertainty(given, Y), torch.tensor(m), atol=1e-6, rtol=0)
    assert partition_loss(partition_uncertainty(given, Y)).item() == pytest.approx(certainty, abs=1e-6)
    assert imbalance(given).item() == pytest.approx(balance, abs=1e-6)
    assert loss(given, Y).item() == pytest.approx(whole, abs=2e-6)


@given(n=ns, k=ks, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_the_terms_are_those_of_their_slow_twins(n: int, k: int, seed: int) -> None:
    x, y = probabilities(n, k, seed), probabilities(n, k, seed + 1)
    m = partition_uncertainty(x, y)
    torch.testing.assert_close(m, slow_uncertainty(x, y))
    assert partition_loss(m).item() == pytest.approx(slow_loss(m))
    sizes = [float(x[:, j].sum() / x.sum()) for j in range(k)]
    assert imbalance(x).item() == pytest.approx(math.log(k) + sum(z * math.log(z) for z in sizes), abs=1e-9)
    pairs = [float(m[j, other]) for j in range(k) for other in range(k) if j != other]
    assert mean_off_diagonal(m).item() == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize("k", [10, 15, 20, 70, 200])
def test_the_loss_at_its_floor_at_a_collapse_and_at_its_highest(k: int) -> None:
    """The floor, the collapsed and the highest value of section 3.2's table."""
    uniform = torch.full((3 * k, k), 1 / k)
    torch.testing.assert_close(partition_uncertainty(uniform, uniform), torch.ones(k, k))
    assert loss(uniform, uniform).item() == pytest.approx(math.log(k), abs=1e-5)
    sure = F.one_hot(torch.arange(3 * k) % k, k).float()
    torch.testing.assert_close(partition_uncertainty(sure, sure), torch.eye(k))
    assert mean_off_diagonal(partition_uncertainty(sure, sure)).item() == 0
    assert loss(sure, sure).item() == pytest.approx(math.log(1 + (k - 1) / math.e), abs=1e-5)
    wrong = partition_loss(partition_uncertainty(sure, sure.roll(1, dims=1))).item()
    assert wrong == pytest.approx(math.log(math.e + k - 1), abs=1e-5)
    assert imbalance(sure).item() == pytest.approx(0, abs=1e-6)


def test_a_single_group_gives_no_nan() -> None:
    one = F.one_hot(torch.zeros(30, dtype=torch.long), 10).float()
    assert imbalance(one).item() == pytest.approx(math.log(10), abs=1e-6)
    assert partition_loss(partition_uncertainty(one, one)).item() == pytest.approx(2.218442, abs=1e-6)


# Properties


@given(n=ns, k=ks, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_cosines_lie_between_zero_and_one(n: int, k: int, seed: int) -> None:
    x, y = probabilities(n, k, seed), probabilities(n, k, seed + 1)
    m = partition_uncertainty(x, y)
    assert m.min() >= 0
    assert m.max() <= 1 + 1e-6
    own = partition_uncertainty(x, x)
    torch.testing.assert_close(own.diagonal(), torch.ones(k, dtype=own.dtype))
    torch.testing.assert_close(own, own.T)


@given(n=ns, k=ks, seed=seeds)
@settings(max_examples=25, deadline=None)
def test_imbalance_is_zero_for_equal_sizes_only(n: int, k: int, seed: int) -> None:
    x = probabilities(n, k, seed)
    assert imbalance(x).item() > 0
    balanced = torch.cat([x.roll(shift, dims=1) for shift in range(k)])
    assert imbalance(balanced).item() == pytest.approx(0, abs=1e-9)


@given(n=ns, k=ks, copies=st.integers(1, 4), seed=seeds)
@settings(max_examples=25, deadline=None)
def test_order_of_groups_and_items_and_tiling_change_nothing(n: int, k: int, copies: int, seed: int) -> None:
    x, y = probabilities(n, k, seed), probabilities(n, k, seed + 1)
    generator = torch.Generator().manual_seed(seed)
    columns, rows = torch.randperm(k, generator=generator), torch.randperm(n, generator=generator)
    expected = loss(x, y)
    torch.testing.assert_close(loss(x[:, columns], y[:, columns]), expected)
    torch.testing.assert_close(loss(x[rows], y[rows]), expected)
    torch.testing.assert_close(loss(x.repeat(copies, 1), y.repeat(copies, 1)), expected)


def test_a_groups_scale_moves_its_size_and_not_its_cosines() -> None:
    x, y = probabilities(20, 5), probabilities(20, 5, 1)
    scaled = x * torch.tensor([1.0, 3.0, 1.0, 1.0, 1.0])
    torch.testing.assert_close(partition_uncertainty(scaled, y), partition_uncertainty(x, y))
    assert abs(float(imbalance(scaled) - imbalance(x))) > 1e-2


def test_the_two_views_do_not_stand_for_each_other() -> None:
    x, y = probabilities(20, 5), probabilities(20, 5, 1)
    assert abs(float(loss(x, y) - loss(y, x))) > 1e-3
    certainties = [partition_loss(partition_uncertainty(*pair)).item() for pair in ((x, y), (y, x))]
    assert abs(certainties[0] - certainties[1]) > 1e-5


# Gradients


@pytest.mark.parametrize("gap", [50.0, 200.0, 1e4])
def test_an_empty_group_has_finite_values_and_gradients(gap: float) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(32, 6, generator=generator)
    raw[:, 2] = -gap
    first, second = raw.clone().requires_grad_(), (raw + 0.1).requires_grad_()
    value = loss(first.softmax(1), second.softmax(1))
    value.backward()
    assert math.isfinite(value.item())
    for logits in (first, second):
        assert logits.grad is not None
        assert bool(torch.isfinite(logits.grad).all())
        assert logits.grad.abs().max() > 0


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: loss(a.softmax(1), b.softmax(1)), (first, second))


def test_a_step_from_a_near_uniform_start_parts_the_groups() -> None:
    logits = 0.01 * torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    before = mean_off_diagonal(partition_uncertainty(logits.softmax(1), logits.softmax(1)))
    (gradient,) = torch.autograd.grad(loss(logits.softmax(1), logits.softmax(1)), logits)
    after = (logits - 10 * gradient).softmax(1)
    assert mean_off_diagonal(partition_uncertainty(after, after)) < before


def test_half_precision_is_computed_in_float32() -> None:
    x = probabilities(20, 5).to(torch.bfloat16)
    assert partition_uncertainty(x, x).dtype == torch.float32
    assert imbalance(x).dtype == torch.float32
