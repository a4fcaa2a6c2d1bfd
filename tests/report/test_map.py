from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from coterie.networks.heads import standardise_rows
from coterie.pipeline import run
from coterie.report import comparable, map_rows, project
from coterie.training.plan import RunSettings
from coterie.views.normalise import SMALL_DIM


@pytest.fixture(autouse=True)
def whole_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside of the tests."""
    monkeypatch.setattr("coterie.report.map.MAP_POINTS", 2000)


def test_rows_are_a_fixed_sorted_sample() -> None:
    assert map_rows(5).tolist() == [0, 1, 2, 3, 4]
    rows = map_rows(60, 50)
    assert len(set(rows.tolist())) == 50
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, map_rows(60, 50))


def test_groups_stay_together_and_the_map_is_repeatable() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 5, 300)
    embedding = (8 * rng.normal(size=(5, 40))[group] + rng.normal(size=(300, 40))).astype(np.float32)
    places = project(embedding)
    assert places.shape == (300, 2)
    assert KNeighborsClassifier(5).fit(places, group).score(places, group) > 0.99
    np.testing.assert_array_equal(places, project(embedding))


def test_rows_of_many_features_are_compared_by_their_angles_as_elsewhere() -> None:
    scale = np.float64([1e-35, 1e-6, 1, 1e6, 1e35, 0])[:, None]
    rows = scale * (1 + np.random.default_rng(0).normal(size=(6, SMALL_DIM)))
    wanted = standardise_rows(torch.from_numpy(rows * np.float64([1e35, 1, 1, 1, 1e-35, 1])[:, None]))
    np.testing.assert_allclose(comparable(rows.astype(np.float32)), wanted.numpy(), atol=1e-6)
    few = rows[:, 1:].astype(np.float32)
    np.testing.assert_array_equal(comparable(few), few)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_groups_stay_together_whatever_the_size_of_the_values(scale: float) -> None:
    group = np.arange(60) % 3
    places = project(scale * (8 * np.eye(3)[group] + np.random.default_rng(0).normal(size=(60, 3))))
    assert KNeighborsClassifier(5).fit(places, group).score(places, group) > 0.95


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_groups_that_differ_by_their_length_alone_stay_apart_on_the_map_of_a_run(tmp_path: Path, dim: int) -> None:
    """Rows of few features were compared by their angles: all items of one feature were at one place, of two at two."""
    group = np.arange(45) % 3
    points = 5.0 * group[:, None] + np.random.default_rng(0).normal(size=(45, dim))
    run(points, RunSettings(n_clusters=3, method="kmeans", calibrate=False), tmp_path / "run")
    places = np.load(tmp_path / "run" / "map.npz")["xy"]
    assert len(np.unique(places, axis=0)) > 40
    assert KNeighborsClassifier(5).fit(places, group).score(places, group) > 0.95


def test_many_rows_are_laid_out_by_their_principal_components() -> None:
    embedding = np.random.default_rng(1).normal(size=(2500, 6)) * [5, 3, 1, 1, 1, 1]
    np.testing.assert_allclose(
        np.abs(project(embedding)), np.abs(PCA(2).fit_transform(embedding.astype(np.float32))), atol=1e-2
    )


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 3), (3, 1), (12, 1), (12, 2), (40, 2000)])
def test_any_shape_gets_a_finite_place(shape: tuple[int, int]) -> None:
    places = project(np.random.default_rng(2).normal(size=shape))
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()


def test_equal_rows_share_a_place() -> None:
    assert project(np.ones((30, 4))).tolist() == [[0, 0]] * 30
    twice = np.repeat(np.random.default_rng(3).normal(size=(2, 4)), 20, axis=0)
    assert np.isfinite(project(twice)).all()
