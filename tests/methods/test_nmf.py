"""NMF as a method; the updates are tested in tests/algorithms/test_factors.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from coterie.data import open_source
from coterie.methods.nmf import Parts, plain_factors
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.training.plan import RunSettings
from coterie.types import InputError

SETTINGS = RunSettings(n_clusters=3, method="nmf", device="cpu", calibrate=False)


def sums_of_parts(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of 6 × 6 pixels with one of three bars each, at a brightness of its own, and some noise."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    pictures = 0.05 * rng.random((n, 6, 6))
    for row, group in enumerate(truth):
        pictures[row, 2 * group : 2 * group + 2] += 0.4 + 0.5 * rng.random()
    return (255 * pictures.clip(0, 1)).astype(np.uint8), truth


def labels_of(probabilities: torch.Tensor) -> np.ndarray:
    return probabilities.argmax(1).numpy()


@pytest.mark.parametrize("overrides", [{}, {"locality": 1.0}, {"most": 30}, {"parts": 5}])
def test_items_of_one_part_are_a_group_and_new_ones_join_it(overrides: dict[str, Any], tmp_path: Path) -> None:
    data, truth = sums_of_parts()
    found = run(data, replace(SETTINGS, overrides=overrides), tmp_path / "run")
    assert adjusted_rand_score(truth, labels_of(found.assignments.probabilities)) == 1.0
    other, its_truth = sums_of_parts(seed=1)
    model = load_model(tmp_path / "run")
    new = model.predict(open_source(other, like=model.spec)).probabilities
    assert adjusted_rand_score(its_truth, labels_of(new)) == 1.0
    assert model.net.parts.parts.shape == (36, overrides.get("parts", 3))
    assert model.net.parts.parts.min() >= 0
    assert model.net.parts.low.abs().max() == 0  # pixels are not negative


def test_negative_embeddings_count_from_their_lowest_value() -> None:
    data, truth = sums_of_parts()
    x = data.reshape(90, 36).astype(np.float32) / 255 - 3.0
    found = run(x, SETTINGS)
    assert adjusted_rand_score(truth, labels_of(found.assignments.probabilities)) == 1.0


def test_what_lies_below_all_that_is_known_counts_as_the_lowest() -> None:
    head = Parts(3, 2)
    head.low.copy_(torch.tensor([-1.0, 0.0, -2.0]))
    lifted = head.lifted(torch.tensor([[-5.0, -5.0, -5.0], [0.0, 1.0, 0.0]]))
    assert lifted.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 2.0]]


def test_more_parts_than_items_or_values_can_be_asked_for() -> None:
    rows = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    codes, parts = plain_factors(rows, 7, 10, torch.Generator().manual_seed(0))
    assert codes.shape == (5, 7)
    assert parts.shape == (4, 7)


def test_more_neighbours_than_others_are_refused() -> None:
    data, _ = sums_of_parts(12)
    with pytest.raises(InputError, match=r"nmf\.neighbours is 12, but of 12 items each has 11 others"):
        run(data, replace(SETTINGS, overrides={"locality": 1.0, "neighbours": 12}))
