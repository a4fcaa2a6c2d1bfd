"""The geometry of the features, followed by an observer that does not touch the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from coterie.algorithms.geometry import intrinsic_dimension, linear_dimension
from coterie.data import open_source
from coterie.pipeline import run
from coterie.running.prepared import Watch
from coterie.training.geometry_tracker import GeometryTracker
from coterie.training.history import read_history
from coterie.training.plan import RunSettings
from coterie.types import InputError

SETTINGS = RunSettings(
    calibrate=False,
    n_clusters=3,
    device="cpu",
    overrides={"cdc.epochs": 2, "cdc.batch_size": 60, "cdc.sub_batch": 30, "cdc.cells": 9, "cdc.hidden": 16},
)
NUMBERS = {"intrinsic_dimension", "linear_dimension", "curvature", "singular_largest", "singular_smallest"}


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (4 * rng.normal(size=(3, 70))[np.arange(180) % 3] + rng.normal(size=(180, 70))).astype(np.float32)


def test_every_epoch_has_its_geometry_and_the_training_stays_the_same(vectors: np.ndarray, tmp_path: Path) -> None:
    plain = run(vectors, SETTINGS)
    tracker = GeometryTracker(k=3)
    followed = run(vectors, SETTINGS, tmp_path / "run", watch=Watch(ready=tracker.ready, after_epoch=[tracker]))
    assert torch.equal(followed.assignments.probabilities, plain.assignments.probabilities)
    on_disk = read_history(tmp_path / "run" / "history.jsonl").records
    assert len(on_disk) == 2
    for mine, without in zip(on_disk, plain.history.records, strict=True):
        assert set(mine.health) - set(without.health) == NUMBERS
        assert mine.health["curvature"] == pytest.approx(
            mine.health["linear_dimension"] - mine.health["intrinsic_dimension"], abs=2e-4
        )
        assert mine.health["singular_largest"] >= mine.health["singular_smallest"] >= 0
    # The last line is about the features of the finished net.
    tracker = GeometryTracker(groups="all")
    whole = run(vectors, SETTINGS, watch=Watch(ready=tracker.ready, after_epoch=[tracker]))
    last, embedding = whole.history.records[-1].health, whole.assignments.embedding
    assert embedding is not None
    assert last["intrinsic_dimension"] == pytest.approx(intrinsic_dimension(embedding), abs=1e-3)
    assert last["linear_dimension"] == linear_dimension(embedding)


def test_features_that_cannot_be_measured_leave_no_numbers_and_do_not_stop_the_run() -> None:
    tracker = GeometryTracker()
    same = np.repeat(np.eye(2, 64, dtype=np.float32), 60, axis=0)
    found = run(same, SETTINGS, watch=Watch(ready=tracker.ready, after_epoch=[tracker]))
    assert all(not NUMBERS & set(record.health) for record in found.history.records)


def test_too_few_items_are_refused_before_training(vectors: np.ndarray) -> None:
    with pytest.raises(InputError, match="at least 50"):
        GeometryTracker().ready(open_source(vectors[:49]))
