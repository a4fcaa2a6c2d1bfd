from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from coterie.algorithms.kmeans import assign, kmeans, lloyd, refine, seed
from helpers.draws import gaussian, seeded


def blobs(n: int, d: int, groups: int, number: int, apart: float = 3.0) -> Tensor:
    g = seeded(number)
    middles = apart * torch.randn(groups, d, generator=g)
    return middles[torch.arange(n) % groups] + torch.randn(n, d, generator=g)


def network_features(n: int, d: int, number: int) -> Tensor:
    """What CDC clusters: non-negative, in ten groups, every row summing to 1, so that values are about 1/d."""
    x = blobs(n, d, 10, number, apart=1.0).relu()
    return x / x.sum(dim=1, keepdim=True)


def slow_lloyd(x: np.ndarray, centres: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's iterations point by point in float64; an empty cluster keeps its centre."""
    centres = centres.copy()
    for _ in range(iterations):
        labels = np.array([int(((centres - point) ** 2).sum(axis=1).argmin()) for point in x])
        for cluster in range(len(centres)):
            if (labels == cluster).any():
                centres[cluster] = x[labels == cluster].mean(axis=0)
    return centres, np.array([int(((centres - point) ** 2).sum(axis=1).argmin()) for point in x])


@pytest.mark.parametrize("with_pairs", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), [(150, 1, 6), (200, 2, 9), (120, 20, 30)])
@pytest.mark.parametrize("iterations", [1, 4, 60])
def test_lloyd_is_what_the_definition_says(n: int, d: int, k: int, iterations: int, with_pairs: bool) -> None:
    x = gaussian(n, d, 1)
    x = x - x.mean(0)
    start = torch.randperm(n, generator=seeded(2))[:k]
    pairs = x @ x.T if with_pairs else None
    found = lloyd(x, start, iterations=iterations, tolerance=0.0, reseed_empty=False, pairs=pairs)
    centres, labels = slow_lloyd(x.double().numpy(), x[start].double().numpy(), iterations)
    np.testing.assert_array_equal(found.labels.numpy(), labels)
    np.testing.assert_allclose(found.centres.numpy(), centres, atol=1e-5)
    assert found.inertia == pytest.approx(((x.double().numpy() - centres[labels]) ** 2).sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "d", "k"),
    [(gaussian, d, k) for d, k in ((1, 8), (2, 40), (64, 8), (64, 200))]
    + [(network_features, 64, k) for k in (8, 40, 200)],
)
def test_inertia_is_that_of_scikit_learn(make: Callable[[int, int, int], Tensor], d: int, k: int) -> None:
    ours, theirs = [], []
    for number in range(6):
        x = make(500, d, number)
        # Ten restarts, as the mean over a few runs that end in different local minima would be mostly chance.
        ours.append(kmeans(x, k, generator=seeded(number), restarts=10).inertia)
        theirs.append(KMeans(k, n_init=10, random_state=number).fit(x.double().numpy()).inertia_)
    assert np.mean(ours) <= 1.02 * np.mean(theirs)


def test_separate_groups_are_found() -> None:
    x = blobs(400, 5, 8, 3, apart=30.0)
    labels = kmeans(x, 8, generator=seeded()).labels
    truth = torch.arange(400) % 8
    assert len({(int(a), int(b)) for a, b in zip(labels, truth, strict=True)}) == 8


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 60),
    d=st.integers(1, 5),
    distinct=st.integers(1, 60),
    fraction=st.floats(0, 1),
    reseed=st.booleans(),
    offset=st.sampled_from([0.0, 100.0]),
    number=st.integers(0, 1000),
)
def test_result_is_consistent(
    n: int, d: int, distinct: int, fraction: float, reseed: bool, offset: float, number: int
) -> None:
    """Also with copies of rows, fewer distinct rows than clusters, k = 1 and k = n."""
    x = gaussian(distinct, d, number)[torch.arange(n) % distinct] + offset
    k = 1 + round(fraction * (n - 1))
    found = kmeans(x, k, generator=seeded(number), reseed_empty=reseed, restarts=2)
    assert found.centres.shape == (k, d)
    assert found.centres.isfinite().all()
    exact = (x.double()[:, None] - found.centres.double()[None]).square().sum(2)
    own = exact.gather(1, found.labels[:, None])[:, 0]
    resolution = 1e-4 if offset else 1e-5
    assert (own <= exact.min(1).values + resolution).all()
    assert found.inertia == pytest.approx(float(own.sum()), rel=1e-3, abs=n * resolution)
    variation = float((x.double() - x.double().mean(0)).square().sum())
    assert found.inertia <= variation * (1 + 1e-4) + 1e-6
    if k >= len(x.unique(dim=0)):
        assert found.inertia <= 1e-5 * max(variation, 1.0)


@pytest.mark.parametrize("make", [gaussian, network_features])
@pytest.mark.parametrize("d", [16, 256])
def test_as_many_clusters_as_points_gives_each_its_own(make: Callable[[int, int, int], Tensor], d: int) -> None:
    x = make(300, d, 5)
    found = kmeans(x, 300, generator=seeded())
    assert sorted(found.labels.tolist()) == list(range(300))
    assert found.inertia == pytest.approx(0.0, abs=1e-9)


def test_one_cluster_is_the_mean() -> None:
    x = gaussian(70, 3, 0) + 5
    torch.testing.assert_close(kmeans(x, 1, generator=seeded()).centres[0], x.mean(0))


@pytest.mark.parametrize("with_pairs", [False, True])
def test_an_empty_cluster_takes_the_farthest_point_or_keeps_its_centre(with_pairs: bool) -> None:
    """Two starting centres are copies of one another, so the second never gets a point."""
    x = torch.tensor([0.0, 0.0, 0.0, 0.0, 10.0, 10.5, 11.0, 30.0])[:, None]
    x = x - x.mean(0)
    start = torch.tensor([0, 1, 5])
    pairs = x @ x.T if with_pairs else None
    kept = lloyd(x, start, pairs=pairs, reseed_empty=False)
    assert kept.labels.tolist() == [0, 0, 0, 0, 2, 2, 2, 2]
    torch.testing.assert_close(kept.centres[1], x[0])
    filled = lloyd(x, start, pairs=pairs)
    assert filled.labels.tolist() == [0, 0, 0, 0, 2, 2, 2, 1]
    assert filled.inertia == pytest.approx(0.5)


def test_more_restarts_never_raise_the_inertia() -> None:
    x = blobs(300, 4, 12, 0, apart=2.0)
    inertia = [kmeans(x, 12, generator=seeded(7), restarts=restarts).inertia for restarts in (1, 2, 5, 20)]
    assert inertia == sorted(inertia, reverse=True)
    assert inertia[-1] < inertia[0]


@pytest.mark.parametrize(("n", "k", "d"), [(300, 60, 64), (300, 5, 2)])
def test_same_generator_same_result(n: int, k: int, d: int) -> None:
    x = gaussian(n, d, 0)
    first, second, other = (kmeans(x, k, generator=seeded(number), restarts=2) for number in (3, 3, 4))
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.centres, second.centres)
    assert not torch.equal(first.labels, other.labels)


def test_result_does_not_move_with_the_data() -> None:
    """Products of uncentred points would lose the differences: 1000² is 2^20, so float32 resolves about 0.1 of it."""
    x = (gaussian(400, 3, 0) * 8).round() / 8  # exact in float32 after the shift
    here, there = (kmeans(x + shift, 20, generator=seeded(1)) for shift in (0.0, 1000.0))
    assert there.inertia == pytest.approx(here.inertia, rel=0.05)
    labels, distances = assign(x + 1000, there.centres)
    assert (labels == there.labels).float().mean() > 0.99
    assert float(distances.sum()) == pytest.approx(there.inertia, rel=0.01)


def test_many_points_are_seeded_from_a_subset_and_clustered_in_full() -> None:
    x = blobs(40_000, 2, 12, 4, apart=10.0)
    start = seed(x, 12, generator=seeded())
    assert start.shape == (1, 12)
    assert len(start.unique()) == 12
    assert start.max() > 20_000  # from anywhere, not from the first rows
    ours = kmeans(x, 12, generator=seeded(), restarts=5)
    theirs = KMeans(12, n_init=5, random_state=0).fit(x.numpy())
    assert ours.labels.shape == (40_000,)
    assert ours.inertia <= 1.01 * theirs.inertia_


def test_seeds_are_distinct_rows_spread_over_the_groups() -> None:
    x = blobs(500, 6, 10, 0, apart=20.0)
    for rows in seed(x, 10, generator=seeded(), restarts=20):
        assert len(rows.unique()) == 10
        assert len((rows % 10).unique()) >= 9  # greedy seeding rarely misses a group; uniform rows hold about 6.5


@pytest.mark.parametrize("with_pairs", [False, True])
def test_no_row_is_chosen_twice_where_products_are_coarse(with_pairs: bool) -> None:
    """Far from the origin, products give a row a distance to itself of about 1, beside 30 between rows."""
    x = gaussian(300, 16, 0) + 1000
    rows = seed(x, 300, generator=seeded(), pairs=x @ x.T if with_pairs else None)[0]
    assert len(rows.unique()) == 300


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_assign_finds_the_nearest_centre(chunk: int) -> None:
    x, centres = gaussian(53, 4, 0) + 30, gaussian(9, 4, 1) + 30
    labels, distances = assign(x, centres, chunk=chunk)
    exact = (x.double()[:, None] - centres.double()[None]).square().sum(2)
    assert torch.equal(labels, exact.argmin(1))
    torch.testing.assert_close(distances.double(), exact.min(1).values, rtol=1e-5, atol=1e-6)


def test_autocast_and_gradients_stay_outside() -> None:
    x = network_features(400, 64, 0)
    plain = kmeans(x, 100, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = kmeans(x.clone().requires_grad_(), 100, generator=seeded())
    assert torch.equal(plain.labels, inside.labels)
    assert not inside.centres.requires_grad


def test_half_and_double_are_clustered_in_single_precision() -> None:
    x = gaussian(100, 5, 0).to(torch.bfloat16)
    results = [kmeans(x.to(dtype), 10, generator=seeded()) for dtype in (torch.bfloat16, torch.double)]
    assert all(found.centres.dtype == torch.float32 for found in results)
    assert torch.equal(results[0].labels, results[1].labels)


def test_wrong_sizes_are_refused() -> None:
    for k in (0, -1, 6):
        with pytest.raises(ValueError, match="between 1 and 5"):
            kmeans(torch.zeros(5, 2), k, generator=seeded())
    with pytest.raises(ValueError, match="restart"):
        kmeans(torch.zeros(5, 2), 2, generator=seeded(), restarts=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_value_that_cannot_be_used_is_named(value: float) -> None:
    x = gaussian(20, 3, 0)
    x[13, 1] = value
    with pytest.raises(ValueError, match="row 13"):
        kmeans(x, 4, generator=seeded())


# From given centres


def test_going_on_from_the_result_changes_nothing_and_from_elsewhere_finds_it_again() -> None:
    g = torch.Generator().manual_seed(0)
    blobs = 10 * torch.randn(4, 3, generator=g)
    x = blobs[torch.arange(200) % 4] + torch.randn(200, 3, generator=g)
    found = kmeans(x, 4, generator=g, restarts=5)
    again = refine(x, found.centres)
    assert torch.equal(again.labels, found.labels)
    torch.testing.assert_close(again.centres, found.centres)
    near = refine(x, found.centres + torch.randn(4, 3, generator=g))
    assert torch.equal(near.labels, found.labels)
    assert near.inertia == pytest.approx(found.inertia, rel=1e-5)


# By direction


def spherical_objective(x: np.ndarray, labels: np.ndarray) -> float:
    """The sum of cosines to each group's mean direction: the length of the sum of its unit rows."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return sum(float(np.linalg.norm(unit[labels == label].sum(0))) for label in np.unique(labels))


@pytest.mark.parametrize("draw", range(5))
def test_spherical_groups_are_the_best_of_all_partitions_of_few_points(draw: int) -> None:
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(draw))
    found = kmeans(x, 2, generator=torch.Generator().manual_seed(0), restarts=200, spherical=True)
    partitions = [np.array([code >> i & 1 for i in range(9)]) for code in range(1, 2**8)]
    best = max(spherical_objective(x.double().numpy(), labels) for labels in partitions)
    assert spherical_objective(x.double().numpy(), found.labels.numpy()) == pytest.approx(best, abs=1e-5)
    assert found.inertia == pytest.approx(2 * (9 - best), abs=1e-4)


@given(st.integers(0, 50), st.integers(2, 6))
@settings(deadline=None, max_examples=20)
def test_spherical_groups_go_by_directions_alone(draw: int, k: int) -> None:
    random = torch.Generator().manual_seed(draw)
    x = torch.randn(60, 5, generator=random)
    longer = x * 2.0 ** torch.randint(-6, 7, (60, 1), generator=random)  # powers of two: no rounding
    first, second = (
        kmeans(rows, k, generator=torch.Generator().manual_seed(1), spherical=True) for rows in (x, longer)
    )
    assert torch.equal(first.labels, second.labels)
    torch.testing.assert_close(first.centres.norm(dim=1), torch.ones(k))
    cosines = torch.nn.functional.normalize(x) @ first.centres.T
    torch.testing.assert_close(cosines.max(1).values, cosines.gather(1, first.labels[:, None])[:, 0])
    # As many as the first step may have and as the last one has: it never falls.
    fewer = kmeans(x, k, generator=torch.Generator().manual_seed(1), spherical=True, iterations=1)
    assert first.inertia <= fewer.inertia + 1e-4


def test_spherical_groups_are_refined_to_the_end_where_all_directions_are_nearly_the_same() -> None:
    draw = torch.Generator().manual_seed(3)
    rows = (torch.randn(8, 32, generator=draw) / 2)[torch.randint(8, (2000,), generator=draw)] + 30
    rows = rows + torch.randn(2000, 32, generator=draw)
    found = kmeans(rows, 8, generator=torch.Generator().manual_seed(0), spherical=True)
    unit, label = torch.nn.functional.normalize(rows.double(), dim=1), found.labels
    for _ in range(10):
        centres = torch.nn.functional.normalize(
            torch.stack([unit[label == group].mean(0) for group in range(8)]), dim=1
        )
        label = torch.cdist(unit, centres).argmin(1)
    assert found.inertia == pytest.approx(float((unit - centres[label]).square().sum()), rel=2e-5)


@pytest.mark.parametrize("apart", [1e-3, 1e-5])
def test_groups_of_directions_that_are_nearly_one_are_found(apart: float) -> None:
    """Before, float32 could not tell directions within 3e-4 of each other: the groups were lost."""
    draw, label = torch.Generator().manual_seed(0), torch.arange(400) % 4
    base, centres = (torch.nn.functional.normalize(torch.randn(m, 64, generator=draw)) for m in (1, 4))
    rows = base + apart * (centres[label] + torch.randn(400, 64, generator=draw) / 160)
    found = kmeans(rows, 4, generator=torch.Generator().manual_seed(0), restarts=5, spherical=True)
    assert adjusted_rand_score(label, found.labels) == 1
    assert torch.allclose(found.centres.norm(dim=1), torch.ones(4), atol=1e-6)


def test_rows_of_zeros_have_no_direction_and_do_no_harm() -> None:
    x = torch.cat([torch.zeros(3, 4), torch.eye(4).repeat(5, 1)])
    found = kmeans(x, 4, generator=torch.Generator().manual_seed(0), restarts=10, spherical=True)
    assert bool(torch.isfinite(found.centres).all())
    assert len(set(found.labels[3:7].tolist())) == 4


@pytest.mark.parametrize("size", [1e-37, 1e-30, 1e-22, 1e-12])
@pytest.mark.parametrize("spherical", [False, True])
def test_tiny_points_are_grouped_as_others(size: float, spherical: bool) -> None:
    """Their squares are 0 in float32: all of them were one group."""
    x = blobs(300, 4, 3, 0)
    kept, small = (kmeans(each, 3, generator=seeded(), restarts=2, spherical=spherical) for each in (x, x * size))
    assert torch.equal(kept.labels, small.labels)
    factor = 1.0 if spherical else size
    assert small.inertia == pytest.approx(kept.inertia * factor**2, rel=1e-3)
    assert torch.allclose(small.centres / factor, kept.centres, atol=1e-3)
    if not spherical:
        assert torch.equal(assign(x * size, small.centres)[0], kept.labels)
        assert torch.equal(refine(x * size, small.centres).labels, kept.labels)


def test_directions_of_huge_rows_count_as_those_of_others() -> None:
    x = blobs(300, 4, 3, 0)
    kept = kmeans(x, 3, generator=seeded(), spherical=True)
    assert torch.equal(kmeans(x * 1e25, 3, generator=seeded(), spherical=True).labels, kept.labels)
