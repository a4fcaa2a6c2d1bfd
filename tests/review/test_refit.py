"""A refit in a review: it leaves what was decided, can be undone, and is not offered where it does not help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coterie.review import Review
from coterie.types import InputError
from helpers.review_runs import write_run


@pytest.fixture
def mixed_up(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A run over four clouds that put half of the fourth into the third, and the right groups."""
    rng = np.random.default_rng(0)
    n = 400
    right = np.arange(n) % 4
    features = np.eye(4)[right] * 6 + rng.normal(size=(n, 4))
    said = np.where((right == 3) & (np.arange(n) % 8 == 3), 2, right)
    p = np.full((n, 4), 0.02, np.float32)
    p[np.arange(n), said] = 0.94
    return write_run(tmp_path / "run", p, embedding=features, kind="embeddings"), right


def test_a_refit_leaves_what_was_decided(mixed_up: tuple[Path, np.ndarray]) -> None:
    run, right = mixed_up
    with Review(run) as review:
        wrong = np.flatnonzero(review.state.label != right)
        review.move(wrong[:20], 3)
        for group in range(3):
            good = np.flatnonzero((right == group) & (review.state.label == group))[:10]
            review.approve(group, good, seen=good)
        odd = wrong[20:22]
        review.move(odd, 1)  # whatever a person says stays
        decided, before = review.state.decided.copy(), review.state.label.copy()
        changed = review.refit(steps=40)
        after = review.state.label
        assert changed == (after != before).sum() > 0
        assert (after[decided] == before[decided]).all()
        assert (after[wrong[22:]] == 3).mean() > 0.8
        review.undo()
        assert (review.state.label == before).all()


def test_what_does_not_help_is_not_offered(mixed_up: tuple[Path, np.ndarray]) -> None:
    run, _ = mixed_up
    with Review(run) as review:
        with pytest.raises(InputError, match="Only 0 items"):
            review.refit(steps=40)
        rows = np.flatnonzero(review.state.label == 0)[:15]
        review.approve(0)
        with pytest.raises(InputError, match="Only 0 items"):  # nobody looked at them
            review.refit(steps=40)
        review.approve(0, rows, seen=rows)
        with pytest.raises(InputError, match="would not help"):
            review.refit(steps=40)


def test_merged_and_split_items_keep_their_group(mixed_up: tuple[Path, np.ndarray]) -> None:
    run, right = mixed_up
    with Review(run) as review:
        review.merge(0, [1])
        wrong = np.flatnonzero((review.state.label == 2) & (right == 3))
        review.move(wrong[:25], 3)
        came = np.flatnonzero(review.base.labels == 1)
        review.refit(steps=40)
        assert (review.state.label[came] == 0).all()
