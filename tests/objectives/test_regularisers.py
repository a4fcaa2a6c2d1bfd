"""Regularised cross-entropies against their formulas written out, and at points where their value is known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from coterie.objectives.regularisers import (
    focal_loss,
    l1_penalised_cross_entropy,
    mix_rows,
    mixed_cross_entropy,
    smoothed_cross_entropy,
)
from helpers.draws import seeded


def batch(seed: int, n: int = 7, k: int = 4) -> tuple[Tensor, Tensor]:
    logits = 3 * torch.randn(n, k, generator=seeded(seed))
    return logits, torch.randint(k, (n,), generator=seeded(seed + 1))


@given(seed=st.integers(0, 1000), amount=st.floats(0.0, 0.9))
@settings(max_examples=30, deadline=None)
def test_the_losses_are_their_formulas_row_by_row(seed: int, amount: float) -> None:
    logits, label = batch(seed)
    smoothed, focal, l1 = [], [], []
    for row, c in zip(logits.tolist(), label.tolist(), strict=True):
        total = sum(math.exp(z) for z in row)
        log_p = [z - math.log(total) for z in row]
        smoothed.append(-(1 - amount) * log_p[c] - amount / len(row) * sum(log_p))
        focal.append(-((1 - math.exp(log_p[c])) ** (5 * amount)) * log_p[c])
        l1.append(-log_p[c] + amount * sum(abs(z) for z in row))
    assert smoothed_cross_entropy(logits, label, amount).item() == pytest.approx(sum(smoothed) / 7, abs=1e-4)
    assert focal_loss(logits, label, 5 * amount).item() == pytest.approx(sum(focal) / 7, abs=1e-4)
    assert l1_penalised_cross_entropy(logits, label, amount).item() == pytest.approx(sum(l1) / 7, abs=1e-4)


def test_without_their_term_all_are_cross_entropy() -> None:
    logits, label = batch(0)
    expected = F.cross_entropy(logits, label)
    other = label.roll(1)
    for loss in (
        smoothed_cross_entropy(logits, label, 0.0),
        focal_loss(logits, label, 0.0),
        l1_penalised_cross_entropy(logits, label, 0.0),
        mixed_cross_entropy(logits, label, other, 1.0),
        mixed_cross_entropy(logits, other, label, 0.0),
    ):
        torch.testing.assert_close(loss, expected)


def test_smoothing_is_least_at_its_target() -> None:
    """p of the label 1 - e + e/c, of the others e/c."""
    best = torch.tensor([[0.95 + 0.05 / 4, 0.05 / 4, 0.05 / 4, 0.05 / 4]]).log()
    least = smoothed_cross_entropy(best, torch.tensor([0]))
    for seed in range(20):
        moved = best + 0.3 * torch.randn(1, 4, generator=seeded(seed))
        assert smoothed_cross_entropy(moved, torch.tensor([0])) > least


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_the_focal_loss_and_its_gradient_stay_finite_for_a_sure_row(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 0]), gamma)
    loss.backward()
    assert loss.item() == pytest.approx(100.0, rel=1e-5)
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


def test_rows_are_mixed_with_another_row_each_by_one_share() -> None:
    x = torch.randn(9, 3, generator=seeded(0))
    mixed, partner, share = mix_rows(x, seeded(4))
    assert sorted(partner.tolist()) == list(range(9))
    for i in range(9):
        torch.testing.assert_close(mixed[i], share * x[i] + (1 - share) * x[partner[i]])
    again, _, same = mix_rows(x, seeded(4))
    assert torch.equal(again, mixed)
    assert same == share


def test_swapping_partners_and_share_leaves_the_mixed_loss() -> None:
    logits, label = batch(3)
    other = label.flip(0)
    torch.testing.assert_close(
        mixed_cross_entropy(logits, label, other, 0.3), mixed_cross_entropy(logits, other, label, 0.7)
    )


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    shares = [mix_rows(torch.zeros(2, 1), seeded(seed), alpha)[2] for seed in range(400)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01
