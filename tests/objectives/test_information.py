import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.objectives.information import entropy, negative_mean_entropy, soft_cross_entropy


def logits(b: int, c: int, number: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(b, c, generator=torch.Generator().manual_seed(number))


sizes = {"b": st.integers(1, 20), "c": st.integers(2, 12), "number": st.integers(0, 999)}


@settings(max_examples=30, deadline=None)
@given(**sizes, scale=st.sampled_from([0.1, 1.0, 30.0, 1000.0]))
def test_negative_mean_entropy_is_the_formula_and_within_its_bounds(b: int, c: int, number: int, scale: float) -> None:
    x = logits(b, c, number, scale).requires_grad_()
    loss = negative_mean_entropy(x)
    mean = x.detach().double().softmax(1).mean(0).tolist()
    loss.backward()
    value = float(loss.detach())
    assert value == pytest.approx(sum(p * math.log(p) for p in mean if p > 0), abs=1e-5)
    assert -math.log(c) - 1e-5 <= value <= 1e-5
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_balanced_predictions_reach_the_lower_bound_whether_sure_or_not() -> None:
    for x in (torch.zeros(8, 4), 100 * torch.eye(4).repeat(2, 1)):
        assert float(negative_mean_entropy(x)) == pytest.approx(-math.log(4), abs=1e-6)


def test_a_class_that_underflows_in_every_row_leaves_the_gradient_finite() -> None:
    x = torch.tensor([[0.0, 1.0, -500.0], [2.0, 0.0, -900.0]], requires_grad=True)
    assert (x.softmax(1)[:, 2] == 0).all()
    loss = negative_mean_entropy(x)
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


@settings(max_examples=30, deadline=None)
@given(**sizes)
def test_entropy_is_that_of_torch_and_within_its_bounds(b: int, c: int, number: int) -> None:
    p = logits(b, c, number).softmax(1)
    expected = torch.distributions.Categorical(probs=p).entropy()
    torch.testing.assert_close(entropy(p, dim=1), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(entropy(p.T, dim=0), expected, rtol=1e-4, atol=1e-5)
    assert (entropy(p) <= math.log(c) + 1e-5).all()


def test_entropy_of_a_certain_prediction_is_zero() -> None:
    assert entropy(torch.eye(5)).tolist() == [0.0] * 5


@settings(max_examples=20, deadline=None)
@given(**sizes)
def test_soft_cross_entropy_is_the_formula_and_lowest_at_its_target(b: int, c: int, number: int) -> None:
    x, target = logits(b, c, number), logits(b, c, number + 1).softmax(1)
    log_p = x.double().softmax(1).log()
    expected = -sum(float(target[i, j]) * float(log_p[i, j]) for i in range(b) for j in range(c)) / b
    found = float(soft_cross_entropy(x, target))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    lowest = float(soft_cross_entropy(target.log(), target))
    assert lowest == pytest.approx(float(entropy(target).mean()), rel=1e-4, abs=1e-5)
    assert lowest <= found + 1e-5


def test_losses_are_single_precision_for_half_precision_logits() -> None:
    x, target = logits(6, 4, 0).bfloat16(), logits(6, 4, 1).softmax(1).bfloat16()
    assert negative_mean_entropy(x).dtype == soft_cross_entropy(x, target).dtype == torch.float32
