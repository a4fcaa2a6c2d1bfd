from __future__ import annotations

from itertools import pairwise

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.algorithms.finch import (
    by_first_appearance,
    closest_level,
    exactly,
    first_neighbour_partition,
    group_means,
    hierarchy,
    merge_to,
)
from coterie.algorithms.neighbours import Metric
from coterie.types import InputError
from helpers.draws import gaussian


def clumps(n: int, d: int, groups: int, seed: int = 0, apart: float = 4.0) -> Tensor:
    return apart * gaussian(groups, d, seed)[torch.arange(n) % groups] + gaussian(n, d, seed + 1)


def distances(points: Tensor, metric: Metric) -> Tensor:
    points = points.double()
    if metric == "cosine":
        points = points / points.norm(dim=1, keepdim=True)
        return 1 - points @ points.T
    return torch.cdist(points, points)


def sets(labels: Tensor) -> set[frozenset[int]]:
    """A partition as a set of sets of rows, whatever its numbers."""
    return {frozenset((labels == label).nonzero().flatten().tolist()) for label in labels.unique().tolist()}


def slow_level(points: Tensor, metric: Metric, longest: float | None) -> tuple[list[set[int]], float]:
    """One level by the adjacency of the paper's Eq. 1, with all three cases and the guard on every link."""
    apart = distances(points, metric).fill_diagonal_(torch.inf)
    first = apart.argmin(1).tolist()
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(points)))
    far = 0.0
    for i in range(len(points)):
        for j in range(len(points)):
            linked = first[i] == j or first[j] == i or first[i] == first[j]
            if i != j and linked:
                far = max(far, float(apart[i, j]))
            if i != j and linked and (longest is None or apart[i, j] <= longest * (1 + 1e-6) + 1e-9):
                graph.add_edge(i, j)
    return list(networkx.connected_components(graph)), far


def slow_hierarchy(points: Tensor, metric: Metric, early_exit: bool) -> list[set[frozenset[int]]]:
    groups, levels = [{i} for i in range(len(points))], []
    longest: float | None = None
    while True:
        means = torch.stack([points[sorted(group)].mean(0) for group in groups])
        parts, far = slow_level(means, metric, longest) if len(means) > 1 else ([{0}], 0.0)
        if len(parts) in (1, len(groups)):
            return levels
        longest = far if early_exit and not levels else longest
        groups = [set().union(*(groups[i] for i in part)) for part in parts]
        levels.append({frozenset(group) for group in groups})


def slow_merge(points: Tensor, labels: Tensor, k: int, metric: Metric) -> set[frozenset[int]]:
    """Merge the closest pair of means, all of them computed anew each time."""
    groups = [set(group) for group in sets(labels)]
    while len(groups) > k:
        means = torch.stack([points[sorted(group)].mean(0) for group in groups])
        closest = int(distances(means, metric).fill_diagonal_(torch.inf).argmin())
        one, other = sorted(divmod(closest, len(groups)))
        groups[one] |= groups.pop(other)
    return {frozenset(group) for group in groups}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("early_exit", [True, False])
@settings(deadline=None, max_examples=15)
@given(n=st.integers(2, 60), d=st.integers(2, 6), groups=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_hierarchy_is_the_papers(n: int, d: int, groups: int, seed: int, metric: Metric, early_exit: bool) -> None:
    points = clumps(n, d, groups, seed)
    found = hierarchy(points, metric, early_exit=early_exit)
    assert [sets(labels) for labels in found] == slow_hierarchy(points, metric, early_exit)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(4, 120), d=st.integers(2, 5), seed=st.integers(0, 1000), copies=st.booleans())
def test_levels_are_nested_and_the_first_has_at_most_half_as_many_groups_as_points(
    n: int, d: int, seed: int, copies: bool
) -> None:
    points = clumps(n, d, 5, seed)
    points = torch.cat([points, points[: n // 2]]) if copies else points
    levels = hierarchy(points, "euclidean")
    counts = [int(labels.max()) + 1 for labels in levels]
    assert counts == sorted(set(counts), reverse=True)
    assert all(count <= len(points) / 2 for count in counts[:1])
    for finer, coarser in pairwise(levels):
        assert all(len(coarser[finer == group].unique()) == 1 for group in finer.unique())
    for labels in levels:
        assert torch.equal(by_first_appearance(labels), labels)


def test_the_order_of_the_points_does_not_matter() -> None:
    points = clumps(150, 4, 6)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    one, other = hierarchy(points), hierarchy(points[order])
    assert len(one) == len(other) > 1
    for labels, shuffled in zip(one, other, strict=True):
        assert sets(by_first_appearance(labels[order])) == sets(shuffled)
    assert sets(exactly(points, one, 4)[order]) == sets(exactly(points[order], other, 4))


def test_two_far_groups_stay_apart_at_every_level() -> None:
    points = torch.cat([gaussian(60, 3), 100 + gaussian(60, 3, 1)])
    levels = hierarchy(points, "euclidean")
    assert levels
    for labels in levels:
        assert not {*labels[:60].tolist()} & {*labels[60:].tolist()}
    assert sets(exactly(points, levels, 2, "euclidean")) == {frozenset(range(60)), frozenset(range(60, 120))}


def test_the_guard_keeps_a_link_that_is_as_long_as_the_longest() -> None:
    """Of whole numbers: (0, 0, 0, 1) lies 1 - 2/√6 from (1, 1, 0, 2), the mean of a group, and two rows likewise."""
    rows = torch.randint(0, 3, (30, 4), generator=torch.Generator().manual_seed(127)).float()
    rows = rows[rows.any(1)]
    first, second = hierarchy(rows, "cosine")
    means = group_means(rows, first).tolist()
    one, other = (int((first == means.index(row)).nonzero()[0]) for row in ([0, 0, 0, 1], [1, 1, 0, 2]))
    assert second[one] == second[other]


def test_the_guard_keeps_an_outlying_pair_apart() -> None:
    points = torch.cat([clumps(80, 2, 4, apart=3.0), torch.tensor([[300.0, 300.0], [300.5, 300.0]])])
    guarded, free = hierarchy(points, "euclidean"), hierarchy(points, "euclidean", early_exit=False)
    assert all(frozenset({80, 81}) in sets(labels) for labels in guarded)
    assert all(len(sets(labels)) >= len(sets(guarded[-1])) for labels in guarded)
    assert len(sets(free[-1])) <= len(sets(guarded[-1]))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@settings(deadline=None, max_examples=15)
@given(n=st.integers(8, 60), d=st.integers(2, 6), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_merging_takes_the_closest_means_one_pair_after_the_other(
    n: int, d: int, k: int, seed: int, metric: Metric
) -> None:
    points = clumps(n, d, 4, seed)
    begin = by_first_appearance(torch.arange(n) % (n // 2))
    merged = merge_to(points, begin, k, metric)
    assert sets(merged) == slow_merge(points, begin, k, metric)
    assert torch.equal(by_first_appearance(merged), merged)


def test_a_required_number_of_groups_is_kept_to() -> None:
    points = clumps(90, 4, 6)
    levels = hierarchy(points)
    counts = [int(labels.max()) + 1 for labels in levels]
    for k in (1, 2, 3, 7, counts[0], counts[0] + 1, 89, 90):
        labels = exactly(points, levels, k)
        assert len(labels.unique()) == k
        if k in counts:
            assert torch.equal(labels, levels[counts.index(k)])
    assert len(closest_level(levels, counts[-1]).unique()) == counts[-1]
    assert len(closest_level(levels, 10_000).unique()) == counts[0]


def test_copies_of_few_points_are_grouped() -> None:
    points = torch.tensor([[0.0, 1.0], [1.0, 0.0], [5.0, 5.0], [5.0, 6.0]]).repeat(10, 1)
    labels = exactly(points, hierarchy(points, "euclidean"), 4, "euclidean")
    assert sets(labels) == sets(torch.arange(40) % 4)


def test_rows_of_zeros_form_a_group_of_their_own() -> None:
    points = torch.cat([torch.zeros(5, 3), 5 + gaussian(20, 3), -5 + gaussian(20, 3, 1)])
    assert frozenset(range(5)) in sets(exactly(points, hierarchy(points), 3))


def test_groups_hang_together_by_links_and_are_numbered_by_their_first_points() -> None:
    neighbour = torch.tensor([3, 2, 1, 0, 5, 6, 5])
    assert first_neighbour_partition(neighbour).tolist() == [0, 1, 1, 0, 2, 2, 2]
    far = torch.tensor([1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0])
    assert first_neighbour_partition(neighbour, far, 2.0).tolist() == [0, 1, 1, 0, 2, 3, 3]
    assert by_first_appearance(torch.tensor([7, 7, 3, 9, 3])).tolist() == [0, 0, 1, 2, 1]


def test_means_are_means() -> None:
    points, labels = gaussian(40, 3), torch.arange(40) % 7
    slow = torch.stack([points[labels == group].mean(0) for group in range(7)])
    torch.testing.assert_close(group_means(points, labels), slow)


def test_what_cannot_be_grouped_is_refused() -> None:
    points = gaussian(6, 2)
    for k in (0, 7):
        with pytest.raises(InputError, match=f"{k} groups of 6"):
            exactly(points, [], k)
    with pytest.raises(InputError, match="are connected"):
        closest_level(hierarchy(points[:3]), 2)


def test_means_of_very_many_points_are_exact() -> None:
    """Sums in float32 put the mean of a million times 0.1 at 0.101."""
    points = torch.full((1_000_000, 1), 0.1)
    points[::2] = 0.3
    labels = torch.arange(1_000_000) % 2
    labels[-3:] = 2
    found = group_means(points, labels)[:, 0]
    assert found.numpy() == pytest.approx([0.3, 0.1, (0.1 + 0.3 + 0.1) / 3], abs=1e-6)
