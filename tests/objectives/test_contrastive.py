import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.objectives.contrastive import column_contrast, embedding_std, info_nce, nt_xent
from helpers.two_views import waves


def rows(n: int, d: int, number: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(number)), dim=1)


def slow_info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> float:
    """The formula, one query at a time, in Python's own numbers."""
    total = 0.0
    for q, k in zip(queries.tolist(), keys.tolist(), strict=True):
        positive = math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / temperature)
        others = sum(math.exp(sum(a * b for a, b in zip(q, n, strict=True)) / temperature) for n in negatives.tolist())
        total -= math.log(positive / (positive + others))
    return total / len(queries)


@settings(max_examples=20, deadline=None)
@given(
    b=st.integers(1, 6), m=st.integers(1, 12), d=st.integers(2, 8), t=st.floats(0.05, 2.0), number=st.integers(0, 99)
)
def test_info_nce_is_the_formula(b: int, m: int, d: int, t: float, number: int) -> None:
    q, k, n = rows(b, d, number), rows(b, d, number + 1), rows(m, d, number + 2)
    assert float(info_nce(q, k, n, t)) == pytest.approx(slow_info_nce(q, k, n, t), rel=1e-4, abs=1e-5)


def test_gradient_is_that_of_cross_entropy_with_the_positive_first() -> None:
    q, k, n = rows(5, 8, 0).requires_grad_(), rows(5, 8, 1), rows(30, 8, 2)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ n.T], dim=1) / 0.2
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, torch.zeros(5, dtype=torch.long)), q)
    (found,) = torch.autograd.grad(info_nce(q, k, n, 0.2), q)
    torch.testing.assert_close(found, expected)


def test_a_very_low_temperature_does_not_overflow() -> None:
    q = rows(4, 8, 0)
    assert info_nce(q, -q, q, 1e-3).isfinite()


def test_loss_is_single_precision_inside_autocast() -> None:
    q, k, n = rows(16, 32, 0), rows(16, 32, 1), rows(500, 32, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce(q, k, n, 0.2)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(info_nce(q, k, n, 0.2)), abs=5e-3)


def test_the_spread_of_embeddings_is_one_on_all_of_the_sphere_and_zero_in_one_point() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4000, 16, generator=generator) * torch.rand(4000, 1, generator=generator)
    assert embedding_std(rows).item() == pytest.approx(1, abs=0.02)
    assert embedding_std(rows[:1] * torch.rand(50, 1, generator=generator)).item() == pytest.approx(0, abs=1e-5)


# NT-Xent, of rows and of columns


def slow_nt_xent(one: Tensor, two: Tensor, temperature: float, left_out: Tensor | None = None) -> float:
    """The formula, one row at a time."""
    views, b = torch.cat([one, two]).double(), len(one)
    total = 0.0
    for i, own in enumerate(views):
        said = [math.exp(float(F.cosine_similarity(own, other, dim=0)) / temperature) for other in views]
        kept = [
            value
            for j, value in enumerate(said)
            if j != i and (left_out is None or i % b == j % b or not left_out[i % b, j % b])
        ]
        total -= math.log(said[(i + b) % (2 * b)] / sum(kept))
    return total / len(views)


@settings(max_examples=20, deadline=None)
@given(b=st.integers(1, 6), d=st.integers(2, 8), t=st.floats(0.1, 2.0), number=st.integers(0, 99), masked=st.booleans())
def test_nt_xent_is_the_formula(b: int, d: int, t: float, number: int, masked: bool) -> None:
    one, two = (3 * torch.randn(b, d, generator=torch.Generator().manual_seed(number + n)) for n in (0, 1))
    label = torch.randint(2, (b,), generator=torch.Generator().manual_seed(number))
    left_out = label[:, None] == label if masked else None
    expected = slow_nt_xent(one, two, t, left_out)
    assert float(nt_xent(one, two, t, left_out)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("temperature", "loss", "gradient"),
    [
        (0.5, 1.9338650703430176, [-0.11870860308408737, -0.09390221536159515, -0.02493211254477501]),
        (0.1, 3.9655749797821045, [-0.7624773383140564, -0.6031433343887329, -0.16014154255390167]),
    ],
)
def test_nt_xent_and_its_gradient_are_those_of_lightly_and_of_ccs_authors(
    temperature: float, loss: float, gradient: list[float]
) -> None:
    """`NTXentLoss` of lightly-ai/lightly at e8d317f; `InstanceLoss` of Yunfan-Li/Contrastive-Clustering at 61daba8 and
    of Yunfan-Li/Twin-Contrastive-Learning at 00bc855 and `CCLoss.instance_loss` of ManiadisG/DivClust at 56d241f give
    the same loss on the rows scaled to length 1."""
    one, two = (waves(6, 5, start=start).requires_grad_() for start in (0, 1))
    found = nt_xent(one, two, temperature)
    (slope,) = torch.autograd.grad(found, one)
    assert found.item() == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(slope[0, :3], torch.tensor(gradient), rtol=1e-4, atol=1e-6)


def test_nt_xent_of_equal_rows_and_of_orthogonal_items() -> None:
    alike = torch.ones(5, 3)
    assert nt_xent(alike, 2 * alike, 0.5).item() == pytest.approx(math.log(9))
    items = torch.eye(10)
    assert nt_xent(items, items, 1.0).item() == pytest.approx(math.log(1 + 18 / math.e))  # 2.031
    everyone = torch.ones(10, 10, dtype=torch.bool)
    assert nt_xent(items, -items, 0.5, everyone).item() == pytest.approx(0, abs=1e-6)  # none is left but the positive


@settings(max_examples=20, deadline=None)
@given(b=st.integers(2, 8), number=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_neither_the_order_of_items_nor_of_views_nor_lengths_matter_to_nt_xent(
    b: int, number: int, scale: float
) -> None:
    one, two = rows(b, 4, number), rows(b, 4, number + 1)
    order = torch.randperm(b, generator=torch.Generator().manual_seed(number))
    expected = nt_xent(one, two, 0.5)
    torch.testing.assert_close(nt_xent(two, one, 0.5), expected)
    torch.testing.assert_close(nt_xent(scale * one[order], two[order], 0.5), expected)


def test_the_contrast_of_columns_is_that_of_ccs_authors() -> None:
    """`ClusterLoss` of Yunfan-Li/Contrastive-Clustering at 61daba8 without its balance term; lightly's `NTXentLoss` on
    transposed assignments gives the same."""
    p, q = ((2 * waves(6, 4, start=start)).softmax(1) for start in (2, 3))
    assert column_contrast(p, q, 1.0).item() == pytest.approx(1.7314828634262085, rel=1e-5)


def test_columns_of_surely_distinct_and_of_equal_groups() -> None:
    sure = F.one_hot(torch.arange(30) % 10, 10).float()
    assert column_contrast(sure, sure, 1.0).item() == pytest.approx(math.log(1 + 18 / math.e))
    uniform = torch.full((30, 10), 0.1)
    assert column_contrast(uniform, uniform, 1.0).item() == pytest.approx(math.log(19))
    p, q = ((2 * waves(6, 4, start=start)).softmax(1) for start in (2, 3))
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(column_contrast(p[:, order], q[:, order], 1.0), column_contrast(p, q, 1.0))


def test_an_empty_column_has_a_finite_gradient() -> None:
    logits = torch.cat([waves(6, 3, start=0), torch.full((6, 1), -1e4)], dim=1).requires_grad_()
    column_contrast(logits.softmax(1), logits.softmax(1), 1.0).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
