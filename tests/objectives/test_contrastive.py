import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.objectives.contrastive import embedding_std, info_nce


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
