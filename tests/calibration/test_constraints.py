"""Judgements as constants of a head: the loss against plain sums, targets by hand, and a refit that spreads them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from coterie.calibration.constraints import FIXED, NOT, PAIR, Constraints, constraint_loss, judged_means, judged_targets
from coterie.training.refit import refit
from coterie.types import InputError

GIVEN = Constraints(
    torch.tensor([4, 0]),
    torch.tensor([1, 2]),
    torch.tensor([7, 8, 9]),
    torch.tensor([0, 0, 1]),
    torch.tensor([[1, 2], [3, 4]]),
    torch.tensor([[5, 6]]),
)


def test_the_loss_is_the_sum_of_its_terms() -> None:
    logits = torch.randn(11, 3, generator=torch.Generator().manual_seed(0)).double()
    p = logits.softmax(1).tolist()
    fixed = -sum(math.log(p[at][group]) for at, group in ((0, 1), (1, 2))) / 2
    others = -sum(math.log(1 - p[at][group]) for at, group in ((2, 0), (3, 0), (4, 1))) / 3
    same = -sum(math.log(sum(a * b for a, b in zip(p[i], p[i + 1], strict=True))) for i in (5, 7)) / 2
    apart = -math.log(1 - sum(a * b for a, b in zip(p[9], p[10], strict=True)))
    found = constraint_loss(logits, GIVEN)
    assert float(found) == pytest.approx(FIXED * fixed + NOT * others + PAIR * (same + apart))
    assert GIVEN.all_rows().tolist() == [4, 0, 7, 8, 9, 1, 2, 3, 4, 5, 6]


def test_without_judgements_there_is_no_loss() -> None:
    assert float(constraint_loss(torch.empty(0, 3), Constraints())) == 0.0


def test_some_are_drawn_of_each_kind() -> None:
    generator = torch.Generator().manual_seed(0)
    many = Constraints(torch.arange(500), torch.zeros(500, dtype=torch.int64), torch.arange(3), torch.zeros(3).long())
    some = many.some(64, generator)
    assert 0 < len(some.rows) <= 64
    assert len(some.not_rows) == 1
    assert len(GIVEN.some(64, generator).all_rows()) == 11


def test_a_target_counts_a_fixed_item_ten_times() -> None:
    """Two far clouds are two mini-clusters; in the first one item of three is fixed to group 1."""
    features = torch.tensor([[0.0, 0], [0.1, 0], [0, 0.1], [9, 9], [9.1, 9]])
    said = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
    fixed = torch.tensor([-1, 1, -1, -1, -1])
    found = judged_targets(features, said, fixed, 2, torch.Generator().manual_seed(0), "none", restarts=3)
    first = (0.9 + 0.7) / 12, (0.1 + 10 + 0.3) / 12
    assert torch.allclose(found[:3], torch.tensor([first] * 3), atol=1e-6)
    assert torch.allclose(found[3:], torch.tensor([[0.3, 0.7]] * 2), atol=1e-6)
    torch.testing.assert_close(judged_means(said, fixed, torch.tensor([1, 1, 1, 0, 0]), 2), found)


def clouds(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of four clouds, what a clustering says that took two of them for one, and the right groups."""
    rng = np.random.default_rng(0)
    right = np.arange(n) % 4
    features = np.eye(4)[right] * 6 + rng.normal(size=(n, 4))
    said = np.full((n, 4), 0.02, np.float32)
    said[np.arange(n), np.where(right == 3, 2, right)] = 0.94
    return features.astype(np.float32), said, right


def test_a_refit_carries_corrections_to_their_neighbours() -> None:
    features, said, right = clouds()
    rows = np.flatnonzero(right >= 2)[:40]
    given = Constraints(torch.from_numpy(rows), torch.from_numpy(right[rows]))
    found = refit(features, said, given, steps=40)
    labels = found.probabilities.argmax(1)
    others = np.setdiff1d(np.arange(len(right)), rows)
    assert found.before == pytest.approx(0.5)
    assert found.held_out > 0.8
    assert (labels[others] == right[others]).mean() > (said.argmax(1)[others] == right[others]).mean() + 0.1
    assert (labels[right < 2] == right[right < 2]).mean() > 0.95
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    again = refit(features, said, given, steps=40)
    assert again.sha256 == found.sha256


def test_few_decided_items_are_too_few() -> None:
    features, said, _ = clouds(40)
    with pytest.raises(InputError, match="Only 4 items"):
        refit(features, said, Constraints(torch.arange(4), torch.zeros(4, dtype=torch.int64)))
