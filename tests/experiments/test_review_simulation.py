"""The simulated reviewer: it answers by the true classes, and its order by gain is that of a slow twin."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def made(n: int = 240, k: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, features and classes of blobs, of which some lie in another group; two groups are one class."""
    rng = np.random.default_rng(0)
    group = rng.integers(k, size=n)
    p = rng.dirichlet(np.full(k, 0.2), n) * 0.3
    p[np.arange(n), group] += 0.7
    truth = np.where(group == k - 1, 0, group)
    strange = rng.random(n) < 0.1
    truth[strange] = (truth[strange] + 1) % (k - 1)
    features = (rng.normal(size=(k, 8))[truth] * 4 + rng.normal(size=(n, 8))).astype(np.float32)
    return (p / p.sum(1, keepdims=True)).astype(np.float32), features, truth


def test_every_way_ends_with_all_right_and_less_work_than_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    import review_simulation

    monkeypatch.setattr(review_simulation, "refit", partial(review_simulation.refit, steps=4))
    p, features, truth = made()
    found = {row["way"]: row for row in review_simulation.ways(review_simulation.Run(p, features, truth))}
    assert len(found) == 11
    for way, row in found.items():
        wrong_inferred = row.get("wrong_inferred", 0)
        assert row["error"] == pytest.approx(wrong_inferred / len(truth)), way
        assert row["whole"]["seconds"] <= row["whole"]["slow_seconds"]
    scratch = found["every picture, without groups"]
    assert scratch["whole"]["keys"] == len(truth)
    assert found["sweep, lowest, alike"]["whole"]["keys"] < scratch["whole"]["keys"]
    assert found["lowest, alike"]["whole"]["keys"] < found["lowest"]["whole"]["keys"]


def slow_gain(e: Any, done: Any, s: Any, near: Any) -> int:
    """The undecided row with the largest e_i (1 + sum of s_ij e_j), the first of equals."""
    best, place = -1.0, -1
    for i in range(len(e)):
        if not done[i]:
            value = e[i] * (1 + sum(s[i, a] * e[j] for a, j in enumerate(near[i]) if not done[j]))
            if value > best + 1e-12:
                best, place = value, i
    return place


def test_the_order_by_gain_equals_a_slow_twin() -> None:
    from _reviewer import by_gain

    rng = np.random.default_rng(1)
    n, m = 40, 5
    confidence, runner_up, label = rng.random(n), rng.integers(2, size=n), rng.integers(2, size=n)
    near = np.array([rng.permutation(np.delete(np.arange(n), i))[:m] for i in range(n)])
    like = rng.uniform(-0.5, 1, (n, m))
    same = (label[near] == label[:, None]) & (runner_up[near] == runner_up[:, None])
    s, e, done = np.where(same, like.clip(0, 1), 0), 1 - confidence, np.zeros(n, bool)
    twin = []
    for _ in range(n):
        row = slow_gain(e, done, s, near)
        twin.append(row)
        done[row] = True
        e[near[row]] *= 1 - s[row]
    assert list(by_gain(confidence, runner_up, label, near, like)) == twin


def test_the_pictures_alike_are_those_of_the_app(tmp_path: Path) -> None:
    import review_simulation

    from coterie.review import Review
    from coterie.review.queue import near
    from helpers.review_runs import write_run

    p, features, truth = made()
    world = review_simulation.Run(p, features, truth)
    reviewer = world.begin()[0]
    reviewer.label = p.argmax(1).astype(np.int64)  # as no one has merged
    with Review(write_run(tmp_path / "run", p, embedding=features, kind="embeddings")) as review:
        for row in range(0, 240, 7):
            assert world.alike(reviewer, row).tolist() == near(review, row, np.arange(240))
