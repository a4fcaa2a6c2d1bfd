from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from coterie.algorithms import neighbours
from coterie.algorithms.neighbours import Metric, nearest, neighbour_lists
from coterie.types import InputError
from helpers.draws import gaussian


def brute(points: Tensor, k: int, queries: Tensor | None = None, metric: str = "euclidean") -> np.ndarray:
    """scikit-learn's distances in float64."""
    found = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(points.double().numpy())
    distances: np.ndarray = found.kneighbors(None if queries is None else queries.double().numpy())[0]
    return distances


def by_differences(points: Tensor, k: int) -> Tensor:
    """Distances in float64 from differences: scikit-learn's products lose digits far from the origin."""
    points = points.double()
    apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    return apart.topk(k, largest=False).values


def between(points: Tensor, index: Tensor, queries: Tensor) -> np.ndarray:
    """Distances of the answers, in float64."""
    return (points.double()[index] - queries.double()[:, None]).norm(dim=2).numpy()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (7, 3, 6), (300, 2, 5), (250, 40, 1), (400, 10, 60)])
def test_neighbours_are_those_of_scikit_learn(n: int, d: int, k: int, metric: Metric) -> None:
    points, queries = gaussian(n, d), gaussian(50, d, 1)
    if d == 1 and metric == "cosine":
        points = torch.tensor([[2.0], [-1.0]])
    distances, index = nearest(points, k, metric=metric)
    np.testing.assert_allclose(distances, brute(points, k, metric=metric), rtol=2e-5, atol=1e-6)
    assert bool((index != torch.arange(n)[:, None]).all())
    distances, index = nearest(points, k, queries, metric)
    np.testing.assert_allclose(distances, brute(points, k, queries, metric), rtol=2e-5, atol=1e-6)
    if metric == "euclidean":
        np.testing.assert_allclose(between(points, index, queries), distances, rtol=1e-5)


def test_close_points_far_from_the_origin_are_told_apart() -> None:
    """In the plain |a|² + |b|² - 2 a·b of float32 all of these distances are lost."""
    middles = 1e4 * gaussian(12, 30)
    points = middles[torch.arange(600) % 12] + 0.05 * gaussian(600, 30, 1)
    distances, index = nearest(points, 4)
    np.testing.assert_allclose(distances, by_differences(points, 4), rtol=1e-5)
    np.testing.assert_allclose(between(points, index, points), distances, rtol=1e-5)
    plain = points.square().sum(1)[:, None] + points.square().sum(1) - 2 * points @ points.T
    wrong = plain.fill_diagonal_(torch.inf).argmin(1) != index[:, 0]
    assert float(wrong.float().mean()) > 0.5


def test_one_point_far_away_does_not_blur_the_others() -> None:
    points = gaussian(300, 5)
    points[17] = 1e7
    distances, _ = nearest(points, 3)
    np.testing.assert_allclose(distances, by_differences(points, 3), rtol=1e-5)


def test_directions_that_hardly_differ_are_told_apart() -> None:
    points = 100 + 0.05 * gaussian(300, 20)
    distances, _ = nearest(points, 3, metric="cosine")
    unit = torch.nn.functional.normalize(points.double())
    exact = (torch.cdist(unit, unit) ** 2 / 2).fill_diagonal_(torch.inf).topk(3, largest=False).values
    np.testing.assert_allclose(distances, exact, rtol=2e-3)  # float32 unit vectors cannot say it more closely


def test_a_point_is_not_its_own_neighbour_but_a_copy_of_it_may_be() -> None:
    points = torch.cat([gaussian(30, 4), gaussian(1, 4, 9).expand(40, 4)])  # more copies than spare candidates
    distances, index = nearest(points, 5)
    assert bool((index != torch.arange(70)[:, None]).all())
    assert all(len(set(row)) == 5 for row in index.tolist())
    assert torch.equal(distances[30:], torch.zeros(40, 5))
    assert int(index[30:].min()) >= 30
    np.testing.assert_allclose(distances, brute(points, 5), rtol=1e-5, atol=1e-6)
    assert float(nearest(points, 1, points)[0].max()) == 0.0  # asked as queries, everyone finds itself


def test_many_points_in_several_blocks() -> None:
    points = gaussian(33_000, 2)
    assert len(points) > neighbours.COLUMNS
    distances, _ = nearest(points, 3)
    exact = cKDTree(points.double().numpy()).query(points.double().numpy(), 4)[0][:, 1:]
    np.testing.assert_allclose(distances, exact, rtol=1e-4, atol=1e-7)


@settings(deadline=None, max_examples=12)
@given(st.integers(3, 60), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_the_order_of_the_points_does_not_matter(n: int, d: int, k: int, seed: int, ties: bool) -> None:
    points = gaussian(n, d, seed)
    points = points.round() if ties else points
    k = min(k, n - 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    distances, index = nearest(points, k)
    torch.testing.assert_close(nearest(points[order], k)[0], distances[order], rtol=1e-5, atol=1e-6)
    assert bool((distances.diff(dim=1) >= 0).all())
    torch.testing.assert_close((points[index] - points[:, None]).norm(dim=2), distances, rtol=1e-5, atol=1e-6)


def test_a_row_of_zeros_has_no_direction() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.2], [0.0, 0.0], [-1.0, -0.1]])
    distances, index = nearest(points, 4, metric="cosine")
    assert index[1].tolist()[0] == 3
    torch.testing.assert_close(distances[1], torch.tensor([0.0, 1.0, 1.0, 1.0]))
    assert index[0].tolist()[0] == 2
    torch.testing.assert_close(nearest(points[[0, 2, 4]], 1, points[[1]], "cosine")[0], torch.ones(1, 1))
    torch.testing.assert_close(nearest(points[[1]], 1, points[[0]], "cosine")[0], torch.ones(1, 1))


def test_cosine_does_not_see_lengths() -> None:
    points = gaussian(60, 4)
    lengths = torch.logspace(-18, 15, 60)[:, None]
    torch.testing.assert_close(nearest(points, 3, metric="cosine"), nearest(lengths * points, 3, metric="cosine"))


def test_approximate_neighbours_are_nearly_all_of_the_exact_ones() -> None:
    pytest.importorskip("faiss")
    points = gaussian(8000, 8)
    exact, found = nearest(points, 10), nearest(points, 10, exact=False)
    shared = [len({*a} & {*b}) for a, b in zip(exact[1].tolist(), found[1].tolist(), strict=True)]
    assert np.mean(shared) > 9.5
    np.testing.assert_allclose(between(points, found[1], points), found[0], rtol=1e-5)
    assert bool((found[1] != torch.arange(8000)[:, None]).all())
    again = nearest(points, 10, points[:50], exact=False)
    assert torch.equal(again[1][:, 0], torch.arange(50))


def test_without_faiss_many_points_are_searched_exactly_and_the_user_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 50)
    points = gaussian(60, 3)
    with pytest.warns(UserWarning, match="faiss-cpu"):
        found = nearest(points, 2)
    torch.testing.assert_close(found, nearest(points, 2, exact=True))
    with pytest.raises(InputError, match="faiss-cpu"):
        nearest(points, 2, exact=False)


def test_what_cannot_be_searched_is_refused() -> None:
    points = gaussian(5, 3)
    for k in (0, 5):
        with pytest.raises(InputError, match="from 1 to 4"):
            nearest(points, k)
    with pytest.raises(InputError, match="from 1 to 5"):
        nearest(points, 6, points)
    with pytest.raises(InputError, match="row 2"):
        nearest(torch.where(torch.arange(5)[:, None] == 2, torch.nan, points), 1)
    with pytest.raises(InputError, match="too large"):
        nearest(1e30 * points, 1)
    with pytest.raises(InputError, match="4 features"):
        nearest(points, 1, gaussian(5, 4))


def test_every_list_begins_with_the_item_itself_and_goes_on_by_similarity() -> None:
    rows = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    lists = neighbour_lists(rows, 5)
    unit = torch.nn.functional.normalize(rows).double()
    for item, own in enumerate(lists.tolist()):
        slow = sorted((j for j in range(30) if j != item), key=lambda j: -float(unit[item] @ unit[j]))
        assert own == [item, *slow[:5]]


def test_an_item_with_copies_still_comes_first_in_its_own_list() -> None:
    lists = neighbour_lists(torch.randn(3, 70, generator=torch.Generator().manual_seed(0)).repeat(4, 1), 3)
    assert lists[:, 0].tolist() == list(range(12))
    for item, own in enumerate(lists.tolist()):
        assert sorted(own) == [j for j in range(12) if j % 3 == item % 3]


def test_cosines_of_huge_and_tiny_rows_are_those_of_others() -> None:
    points = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    distance, index = nearest(points, 4, metric="cosine")
    for size in (1e-30, 1e25):
        found = nearest(points * size, 4, metric="cosine")
        assert torch.equal(found[1], index)
        assert torch.allclose(found[0], distance, atol=1e-6)
