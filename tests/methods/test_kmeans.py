"""K-means as a method; the algorithm is tested in tests/algorithms/test_kmeans.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Oracle
from sklearn.metrics import adjusted_rand_score

from coterie.algorithms.kmeans import kmeans_by_mini_batches
from coterie.contract import Facts
from coterie.methods.kmeans import KMeans, practical
from coterie.networks.heads import variance_per_dimension
from coterie.pipeline import RunResult, run
from coterie.training.plan import RunSettings
from coterie.types import InputError, Source
from helpers.vectors import groups_of_vectors

SETTINGS = RunSettings(n_clusters=3, method="kmeans", device="cpu", calibrate=False)


def fitted(data: Any, **overrides: Any) -> RunResult:
    return run(data, replace(SETTINGS, overrides=overrides))


def labels_of(found: RunResult) -> np.ndarray:
    return found.assignments.probabilities.argmax(1).numpy()


def inertia_of(rows: np.ndarray, labels: np.ndarray) -> float:
    return sum(float(((rows[labels == k] - rows[labels == k].mean(0)) ** 2).sum()) for k in np.unique(labels))


@pytest.mark.parametrize(
    "overrides", [{}, {"distance": "cosine"}, {"mini_batches": True}, {"mini_batches": True, "distance": "cosine"}]
)
def test_separate_groups_are_found(overrides: dict[str, Any]) -> None:
    vectors, truth = groups_of_vectors(180, apart=3.0)
    found = fitted(vectors, **overrides)
    assert adjusted_rand_score(truth, labels_of(found)) == 1.0
    assert found.model.backbone == "identity"
    assert found.history.records == []


def test_pixels_are_grouped_as_well_as_by_scikit_learn(digits: Source) -> None:
    """Pixels from 0 to 1 as they are, not those that were normalised by channel."""
    array: np.ndarray = digits.items.array  # type: ignore[attr-defined]
    rows = array.reshape(len(array), -1) / 255
    found = run(array, replace(SETTINGS, n_clusters=5, overrides={"restarts": 20}))
    oracle = Oracle(5, n_init=20, random_state=0).fit(rows)
    assert inertia_of(rows, labels_of(found)) == pytest.approx(oracle.inertia_, rel=0.01)
    centres = found.model.net.groups.centres
    assert -1e-6 <= float(centres.min()) < float(centres.max()) <= 1 + 1e-6
    means = np.stack([rows[labels_of(found) == k].mean(0) for k in range(5)])
    np.testing.assert_allclose(centres.numpy(), means, atol=1e-4)


def test_short_vectors_are_taken_for_unlike_measurements() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 3
    places = np.eye(3)[truth] + 0.02 * rng.normal(size=(120, 3))
    vectors = np.concatenate([places, 1e4 * rng.uniform(size=(120, 1))], 1).astype(np.float32)
    assert adjusted_rand_score(truth, labels_of(fitted(vectors, restarts=50))) > 0.9
    assert adjusted_rand_score(truth, Oracle(3, n_init=50, random_state=0).fit_predict(vectors)) < 0.1


def test_by_angles_the_lengths_of_the_users_values_do_not_count() -> None:
    vectors, truth = groups_of_vectors(180, apart=3.0)
    longer = vectors * np.random.default_rng(1).uniform(0.1, 10, (len(vectors), 1)).astype(np.float32)
    found = fitted(longer, distance="cosine")
    assert adjusted_rand_score(truth, labels_of(found)) == 1.0
    torch.testing.assert_close(found.model.net.groups.centres.norm(dim=1), torch.ones(3))
    # Only where 0 lies where the user has it: moved, all vectors point the same way.
    rows = found.model.method.rows(found.model.net, found.assignments.embedding)  # type: ignore[attr-defined]
    unit = longer / np.linalg.norm(longer, axis=1, keepdims=True)
    np.testing.assert_allclose(rows.numpy(), unit, atol=1e-4)


def test_directions_can_be_seen_from_the_mean_of_the_items() -> None:
    vectors, truth = groups_of_vectors(180, apart=3.0)
    moved = vectors + 100
    found = fitted(moved, distance="cosine", centre=True)
    assert adjusted_rand_score(truth, labels_of(found)) == 1.0
    rows = found.model.method.rows(found.model.net, found.assignments.embedding)  # type: ignore[attr-defined]
    middle = moved - moved.mean(0)
    np.testing.assert_allclose(rows.numpy(), middle / np.linalg.norm(middle, axis=1, keepdims=True), atol=1e-3)
    with pytest.raises(InputError, match="distances do not change by it: add distance=cosine"):
        fitted(moved, centre=True)


def test_confidences_are_the_posterior_of_a_spherical_mixture() -> None:
    vectors, _ = groups_of_vectors(180, apart=0.5)
    found = fitted(vectors)
    x, net = found.assignments.embedding, found.model.net
    assert x is not None
    centres, labels = net.groups.centres, torch.from_numpy(labels_of(found))
    variance = variance_per_dimension(x - centres[labels])
    density = torch.stack([(-(x - centre).square().sum(1) / (2 * variance)) for centre in centres], 1)
    torch.testing.assert_close(found.assignments.probabilities, density.softmax(1), atol=1e-4, rtol=1e-3)
    assert torch.equal(labels, torch.cdist(x, centres).argmin(1))


def test_it_groups_the_features_of_another_run(digits: Source, tmp_path: Path) -> None:
    array: np.ndarray = digits.items.array  # type: ignore[attr-defined]
    before = replace(SETTINGS, method="moco", epochs=1, backbone="small-4", family="glyph")
    run(array, before, tmp_path / "moco")
    found = run(array, replace(SETTINGS, init=str(tmp_path / "moco")))
    embedding = found.assignments.embedding
    assert embedding is not None
    assert embedding.shape == (len(array), 32)
    oracle = Oracle(3, n_init=10, random_state=0).fit(embedding.numpy())
    assert inertia_of(embedding.numpy(), labels_of(found)) == pytest.approx(oracle.inertia_, rel=0.01)


def test_mini_batches_come_near_to_all_items() -> None:
    vectors, _ = groups_of_vectors(3000, 8, apart=0.5)
    x = torch.from_numpy(vectors)
    centres = kmeans_by_mini_batches(x, 3, generator=torch.Generator().manual_seed(0), restarts=3)
    oracle = Oracle(3, n_init=10, random_state=0).fit(vectors)
    assert float(torch.cdist(x, centres).square().amin(1).sum()) == pytest.approx(oracle.inertia_, rel=0.05)


def test_very_many_items_are_looked_at_in_part() -> None:
    assert practical(Facts(1_000_000, 10, "embeddings", "cpu", dim=384)) == {"mini_batches": True}
    assert practical(Facts(60_000, 10, "images", "cpu", side=32)) == {}


def test_images_of_too_many_pixels_are_refused_before_anything_is_done() -> None:
    large = np.random.default_rng(0).integers(0, 256, (4, 3, 72, 72), dtype=np.uint8)
    with pytest.raises(InputError, match="K-means groups images by their pixels, and 72×72 are too many"):
        run(large, replace(SETTINGS, n_clusters=2))


def test_defaults_are_plain_k_means() -> None:
    assert KMeans() == KMeans(distance="euclidean", centre=False, restarts=10, iterations=300, mini_batches=False)
