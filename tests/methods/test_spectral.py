"""Spectral clustering as a method; graph and coordinates are tested in tests/algorithms/test_spectral.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from coterie.data import open_source
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.training.plan import RunSettings
from coterie.types import InputError

SETTINGS = RunSettings(n_clusters=2, method="spectral", device="cpu", calibrate=False)


def rings(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two circles, one within the other, which no centre can tell apart."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, n), 1 + 2 * truth + 0.1 * rng.normal(size=n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), truth


def labels_of(probabilities: torch.Tensor) -> np.ndarray:
    return probabilities.argmax(1).numpy()


@pytest.mark.parametrize("overrides", [{}, {"landmarks": 200}])
def test_rings_are_told_apart_and_new_items_placed(overrides: dict[str, Any], tmp_path: Path) -> None:
    data, truth = rings()
    found = run(data, replace(SETTINGS, overrides={"neighbours": 12, **overrides}), tmp_path / "run")
    assert adjusted_rand_score(truth, labels_of(found.assignments.probabilities)) == 1.0
    by_centres = run(data, replace(SETTINGS, method="kmeans")).assignments.probabilities
    assert adjusted_rand_score(truth, labels_of(by_centres)) < 0.1
    other, its_truth = rings(seed=1)
    model = load_model(tmp_path / "run")
    new = model.predict(open_source(other, like=model.spec)).probabilities
    assert adjusted_rand_score(its_truth, labels_of(new)) == 1.0
    assert len(model.net.spectral.landmarks.rows) == overrides.get("landmarks", 400)


def test_groups_that_hang_together_nowhere_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    data = (1000 * np.eye(70)[truth] + rng.normal(size=(90, 70))).astype(np.float32)
    found = run(data, replace(SETTINGS, n_clusters=3))
    assert adjusted_rand_score(truth, labels_of(found.assignments.probabilities)) == 1.0


def test_votes_have_no_energy_and_partitions_of_one_member_have(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    asked = replace(SETTINGS, overrides={"neighbours": 8, "members": 5})
    model = run(data, asked, tmp_path / "run").model
    source = open_source(data, like=model.spec)
    for score in ("energy", "max-logit"):  # the logs of votes sum to 0, so that an energy would be rounding errors
        with pytest.raises(InputError, match=f"{score} needs logits, and this model has only probabilities"):
            load_model(tmp_path / "run").predict(source, ood_scores=[score])
    assert "energy" not in model.scores_of_fitted()
    single = run(data, replace(SETTINGS, overrides={"neighbours": 8, "members": 1})).model
    assert single.predict(source, ood_scores=["energy"]).ood_scores["energy"].std() > 0.01


def test_by_angles_the_lengths_of_the_users_values_do_not_count() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 3
    data = 2 * rng.normal(size=(3, 70))[truth] + rng.normal(size=(120, 70))
    longer = (data * rng.uniform(0.05, 20, (120, 1))).astype(np.float32)
    found = run(longer, replace(SETTINGS, n_clusters=3, overrides={"distance": "cosine"}))
    assert adjusted_rand_score(truth, labels_of(found.assignments.probabilities)) == 1.0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"scale": 9, "neighbours": 8}, r"spectral\.scale is 9.*8 neighbours"),
        ({"landmarks": 2, "neighbours": 1, "scale": 1}, r"spectral\.landmarks is 2"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(rings(60)[0], replace(SETTINGS, overrides=overrides))


def test_images_of_too_many_pixels_are_refused_before_anything_is_done() -> None:
    large = np.random.default_rng(0).integers(0, 256, (4, 3, 72, 72), dtype=np.uint8)
    with pytest.raises(InputError, match="Spectral clustering groups images by their pixels, and 72×72 are too many"):
        run(large, SETTINGS)


def clumps(n: int = 120, dim: int = 160, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Long embeddings in three groups."""
    rng, truth = np.random.default_rng(seed), np.arange(n) % 3
    centres = 3 * np.random.default_rng(9).normal(size=(3, dim))
    return (centres[truth] + rng.normal(size=(n, dim))).astype(np.float32), truth


def test_of_long_embeddings_members_vote_and_new_items_are_placed(tmp_path: Path) -> None:
    data, truth = clumps()
    found = run(data, replace(SETTINGS, n_clusters=3, calibrate="auto"), tmp_path / "run")
    settings = found.record["stages"][-1]["settings"]
    assert (settings["members"], settings["components"]) == (5, 128)
    assert found.record["calibration"] is None  # the votes are the confidences
    assert adjusted_rand_score(truth, labels_of(found.assignments.probabilities)) == 1.0
    model = load_model(tmp_path / "run")
    again = model.predict(open_source(data, like=model.spec)).probabilities
    torch.testing.assert_close(again, found.assignments.probabilities)
    other, its_truth = clumps(seed=1)
    new = model.predict(open_source(other, like=model.spec)).probabilities
    assert adjusted_rand_score(its_truth, labels_of(new)) == 1.0


def test_where_nothing_is_to_be_found_members_part_and_nobody_is_sure() -> None:
    data = np.random.default_rng(0).normal(size=(150, 160)).astype(np.float32)
    sure = run(data, replace(SETTINGS, n_clusters=5, overrides={"members": 1})).assignments.probabilities
    voted = run(data, replace(SETTINGS, n_clusters=5)).assignments.probabilities
    assert voted.max(1).values.mean() < sure.max(1).values.mean() - 0.1


@pytest.mark.parametrize("sizes", [(160, 60, 30, 20), (200, 80, 40, 40, 40), (150, 40, 25)])
def test_long_embeddings_in_groups_of_unequal_size_that_stand_apart_are_not_divided(sizes: tuple[int, ...]) -> None:
    rng, truth = np.random.default_rng(1), np.repeat(np.arange(len(sizes)), sizes)
    data = (2 * rng.normal(size=(len(sizes), 160)))[truth] + rng.normal(size=(len(truth), 160))
    found = run(data.astype(np.float32), replace(SETTINGS, n_clusters=len(sizes))).assignments.probabilities
    assert adjusted_rand_score(truth, labels_of(found)) == 1.0
    assert float(found.max(1).values.mean()) > 0.95


@pytest.mark.parametrize("dim", [16, 160])
def test_many_copies_of_an_item_do_not_change_the_groups(dim: int) -> None:
    data, truth = clumps(dim=dim)
    copies = np.concatenate([data, np.repeat(data[:1], 100, 0)])
    found = run(copies, replace(SETTINGS, n_clusters=3)).assignments.probabilities
    assert adjusted_rand_score(np.concatenate([truth, np.repeat(truth[:1], 100)]), labels_of(found)) == 1.0


def test_how_sure_it_is_does_not_rise_with_the_number_of_items() -> None:
    """Groups that overlap: more items of the same kind make nothing clearer."""
    rng = np.random.default_rng(0)
    centres = 0.6 * rng.normal(size=(4, 160))

    def sure(n: int) -> float:
        data = (centres[np.arange(n) % 4] + rng.normal(size=(n, 160)) * np.geomspace(6, 0.3, 160)).astype(np.float32)
        found = run(data, replace(SETTINGS, n_clusters=4)).assignments.probabilities
        return float(found.max(1).values.mean())

    assert abs(sure(3200) - sure(400)) < 0.06
