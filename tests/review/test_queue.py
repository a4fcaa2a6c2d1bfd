"""The order of the doubtful items, and what is offered beside one, against a slow twin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coterie.review import Review
from coterie.review.queue import ALIKE, NEAR, near, tasks, waiting
from helpers.review_runs import small_run


@pytest.fixture
def review(tmp_path: Path) -> Iterator[Review]:
    with Review(small_run(tmp_path, pictures=False)) as review:
        yield review


def test_the_least_sure_come_first_and_those_put_off_last(review: Review) -> None:
    surest = np.argsort(review.base.confidence)[::-1]
    review.move(surest[10:30], 1).reject(surest[100:110].tolist())
    left = [row for row in range(120) if row not in {*surest[10:30].tolist(), *surest[100:110].tolist()}]
    assert waiting(review) == len(left) == 90
    expected = sorted(left, key=lambda row: (review.confidence[row], row))
    assert [task.row for task in tasks(review, 500)] == expected
    assert [task.row for task in tasks(review, 7, skip=expected[:2])] == expected[2:9]
    assert [task.row for task in tasks(review, 500, skip=expected[:2])][-2:] == expected[:2]
    review.move(left, 2)
    assert tasks(review, 5) == []


def test_beside_an_item_are_undecided_ones_of_its_group_with_much_the_same_features(review: Review) -> None:
    """The cosine to the mean of all features is at least 0.8; the nearest first, at most eleven."""
    features = np.random.default_rng(0).normal(size=(120, 2)) + 5
    review.set_features(features)
    z = features - features.mean(0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    review.move([8, 12], 0)
    undecided = [row for row in range(120) if row not in (8, 12)]
    for task in tasks(review, 120):
        same = [row for row in undecided if review.state.label[row] == review.state.label[task.row] and row != task.row]
        alike = sorted((row for row in same if z[row] @ z[task.row] >= ALIKE), key=lambda row: -(z[row] @ z[task.row]))
        assert task.near == alike[:NEAR]
    review.merge(0, [1, 2, 3])
    assert len(near(review, 0, np.arange(120))) == NEAR
