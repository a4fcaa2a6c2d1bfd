from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from torch import Tensor

from coterie.algorithms.sinkhorn import sinkhorn
from helpers.two_views import waves


def logits(seed: int, n: int, k: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("scale", "sharpness", "cost", "steps"), [(2.0, 10.0, 0.7582144495895512, 41), (1.0, 25.0, 0.9743155114028639, 81)]
)
def test_labels_cost_and_steps_are_those_of_the_authors_code(
    scale: float, sharpness: float, cost: float, steps: int
) -> None:
    """`optimize_L_sk` of yukimasano/self-label at 3891e37 (16 July 2023), computed on 26 November 2026."""
    log_p = (scale * waves(12, 4, start=0)).double().log_softmax(1)
    found = sinkhorn(log_p, sharpness)
    label = found.plan.argmax(1)
    assert label.tolist() == [2, 0, 3, 0, 3, 1, 3, 1, 1, 2, 0, 2]
    assert found.steps == steps
    assert -log_p[torch.arange(12), label].mean().item() == pytest.approx(cost, abs=1e-9)


def slow(log_p: np.ndarray, sharpness: float, shares: np.ndarray) -> np.ndarray:
    """Scipy's logarithms of sums, and far more steps."""
    n = len(log_p)
    items, groups = np.zeros(n), np.zeros(len(shares))
    for _ in range(400):
        groups = np.log(shares) - logsumexp(sharpness * log_p + items[:, None], axis=0)
        items = -np.log(n) - logsumexp(sharpness * log_p + groups, axis=1)
    return np.exp(sharpness * log_p + items[:, None] + groups)


@given(st.integers(0, 1000), st.integers(3, 20), st.integers(2, 5), st.floats(0.5, 4))
@settings(deadline=None, max_examples=8)
def test_the_plan_is_the_slow_ones_and_has_the_asked_for_margins(seed: int, n: int, k: int, sharpness: float) -> None:
    log_p = logits(seed, n, k).log_softmax(1)
    shares = torch.rand(k, generator=torch.Generator().manual_seed(seed)) + 0.2
    shares = shares / shares.sum()
    plan = sinkhorn(log_p, sharpness, shares, tolerance=1e-8).plan
    assert plan.dtype == torch.float64
    torch.testing.assert_close(plan.sum(1), torch.full((n,), 1 / n, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(plan.sum(0), shares.double(), atol=1e-4, rtol=0)
    expected = slow(log_p.double().numpy(), sharpness, shares.double().numpy())
    np.testing.assert_allclose(plan.numpy(), expected, atol=1e-4)


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_a_sharp_plan_is_nearly_the_best_balanced_assignment(seed: int) -> None:
    """Scipy's assignment of four groups' five places each; entropy may cost log(n k) / sharpness at most."""
    log_p = logits(seed, 20, 4).log_softmax(1).double()
    rows, places = linear_sum_assignment(-log_p.numpy().repeat(5, axis=1))
    best = float(log_p.numpy()[rows, places // 5].mean())
    plan = sinkhorn(log_p, 20.0, tolerance=1e-6).plan
    assert best - math.log(80) / 20 <= float((plan * log_p).sum()) <= best + 1e-3


@pytest.mark.parametrize("scale", [50.0, 1e4])
def test_probabilities_that_underflow_are_assigned_all_the_same(scale: float) -> None:
    z = scale * torch.eye(4).repeat(3, 1)
    plan = sinkhorn(z, 25.0).plan
    assert plan.argmax(1).tolist() == [0, 1, 2, 3] * 3
    torch.testing.assert_close(plan.sum(0), torch.full((4,), 0.25).double())


@pytest.mark.parametrize(("gap", "sharpness"), [(30.0, 1000.0), (1e3, 10.0)])
def test_sure_answers_of_unequal_groups_are_shared_out_equally_however_sharp(gap: float, sharpness: float) -> None:
    z = logits(5, 60, 4, 1.0)
    z[:40, 0] += gap
    z[40:, 1] += gap
    found = sinkhorn(z, sharpness)
    torch.testing.assert_close(found.plan.sum(0), torch.full((4,), 0.25).double(), atol=2e-3, rtol=0)
    assert found.plan.argmax(1).bincount(minlength=4).tolist() == pytest.approx([15] * 4, abs=2)


def test_logits_are_as_good_as_logarithms_of_probabilities() -> None:
    z = logits(3, 9, 3)
    torch.testing.assert_close(sinkhorn(z, 5.0).plan, sinkhorn(z.log_softmax(1), 5.0).plan, atol=1e-7, rtol=1e-4)


def test_equal_answers_are_shared_out_equally() -> None:
    torch.testing.assert_close(sinkhorn(torch.zeros(6, 3), 10.0).plan, torch.full((6, 3), 1 / 18).double())
