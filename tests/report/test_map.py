import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from coterie.report import map_rows, project


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
