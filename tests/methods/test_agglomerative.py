"""Agglomeration as a method; that by mutual neighbours is tested in tests/algorithms/test_agglomeration.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from coterie.algorithms.agglomeration import by_mutual_neighbours
from coterie.contract import Facts
from coterie.data import open_source
from coterie.methods.agglomerative import by_ward, practical
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.training.plan import RunSettings
from coterie.types import InputError, Source
from helpers.vectors import groups_of_vectors

SETTINGS = RunSettings(n_clusters=3, method="agglomerative", device="cpu", calibrate=False)


@pytest.mark.parametrize("overrides", [{"linkage": "mutual"}, {"linkage": "ward"}, {"landmarks": 60}])
def test_separate_groups_are_found_and_new_items_placed(overrides: dict[str, Any], tmp_path: Path) -> None:
    vectors, truth = groups_of_vectors(180, apart=3.0)
    found = run(vectors[:150], replace(SETTINGS, overrides=overrides), tmp_path / "run")
    labels = found.assignments.probabilities.argmax(1).numpy()
    assert adjusted_rand_score(truth[:150], labels) == 1.0
    model = load_model(tmp_path / "run")
    new = model.predict(open_source(vectors[150:], like=model.spec)).probabilities.argmax(1).numpy()
    assert adjusted_rand_score(truth, np.concatenate([labels, new])) == 1.0
    assert len(model.net.groups.means.rows) == overrides.get("landmarks", 150)


@pytest.mark.parametrize("kind", ["mutual", "ward"])
def test_the_answer_is_the_partition_itself(kind: str, digits: Source) -> None:
    array: np.ndarray = digits.items.array  # type: ignore[attr-defined]
    found = run(array, replace(SETTINGS, n_clusters=5, overrides={"linkage": kind}))
    rows = torch.from_numpy(array.reshape(len(array), -1)).float() / 255
    expected = by_ward(rows, 5) if kind == "ward" else by_mutual_neighbours(rows, 5, 10)
    assert adjusted_rand_score(expected.numpy(), found.assignments.probabilities.argmax(1).numpy()) == 1.0


def test_ward_is_scipys() -> None:
    vectors, _ = groups_of_vectors(180, apart=0.5)
    expected = fcluster(linkage(vectors.astype(float), "ward"), 4, "maxclust")
    assert adjusted_rand_score(expected, by_ward(torch.from_numpy(vectors), 4).numpy()) == 1.0


def test_the_practical_preset_is_wards() -> None:
    assert practical(Facts(100, 3, "images", "cpu", side=8)) == {"linkage": "ward"}


def test_fewer_landmarks_than_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"agglomerative\.landmarks is 2"):
        run(groups_of_vectors(180, apart=3.0)[0], replace(SETTINGS, overrides={"landmarks": 2}))


def test_images_of_too_many_pixels_are_refused_before_anything_is_done() -> None:
    large = np.random.default_rng(0).integers(0, 256, (4, 3, 72, 72), dtype=np.uint8)
    with pytest.raises(InputError, match="Agglomerative clustering groups images by their pixels"):
        run(large, replace(SETTINGS, n_clusters=2))
