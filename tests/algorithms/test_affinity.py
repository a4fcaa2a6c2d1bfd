"""Agglomeration by directed affinities beside the authors' numbers and a slow twin on dense tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from coterie.algorithms.affinity import Groups, by_means, neighbour_chains, neighbour_graph, united, ways
from helpers.two_views import waves

LABELS = torch.tensor([0, 1, 2, 0, 1, 3, 2, 0, 3])


def test_ways_and_affinities_are_those_of_the_authors_code() -> None:
    """`compute_CAff` of jwyang/JULE.torch at 69bdfd8 (26 August 2019), its C compiled with stand-ins for Torch's
    headers, computed on 26 November 2026; its tables hold only pairs i < j of the symmetric affinity."""
    graph, _ = neighbour_graph(waves(9, 4, start=0.3), 4)
    expected = [
        [0.0, 0.4617112874984741, 0.8244959115982056, 2.256869077682495],
        [0.4617112874984741, 0.0, 1.1430985927581787, 0.7654004096984863],
        [0.5054659843444824, 1.628528356552124, 0.0, 0.4516528844833374],
        [1.1669015884399414, 0.7338027954101562, 0.4516528844833374, 0.0],
    ]
    assert ways(graph, LABELS).toarray() == pytest.approx(np.array(expected), abs=1e-5)
    found = Groups(ways(graph, LABELS), [3, 2, 2, 2], 5).affinity
    affinities = {
        (0, 1): 0.16672907769680023,
        (0, 2): 0.2179771512746811,
        (0, 3): 0.5424886345863342,
        (1, 2): 0.6929067373275757,
        (1, 3): 0.37480080127716064,
        (2, 3): 0.2258264422416687,
    }
    for (i, j), value in affinities.items():
        assert found[i][j] == found[j][i] == pytest.approx(value, abs=1e-5)


def test_the_graph_is_directed_and_its_scale_is_the_mean_squared_distance() -> None:
    rows = torch.tensor([[0.0], [1.0], [3.0]])
    graph, other = neighbour_graph(rows, 1)
    mean = (1 + 1 + 4) / 3
    expected = np.zeros((3, 3))
    expected[0, 1], expected[1, 0], expected[2, 1] = np.exp([-1 / mean, -1 / mean, -4 / mean])
    assert graph.toarray() == pytest.approx(expected)
    assert other.tolist() == [1, 0, 1]
    same, _ = neighbour_graph(torch.zeros(4, 2), 2)
    assert (same.data == 1).all()


def slow_chains(following: list[int]) -> list[int]:
    """The paths written down first, then named."""
    label: dict[int, int] = {}
    names = 0
    for begin in range(len(following)):
        path: list[int] = []
        while begin not in label and begin not in path and len(path) < 51:
            path.append(begin)
            begin = following[begin]
        if begin not in label:
            label[begin], names = names, names + 1
        label.update(dict.fromkeys(path, label[begin]))
    return [label[i] for i in range(len(following))]


@given(seed=st.integers(0, 200), n=st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_chains_are_their_slow_twin(seed: int, n: int) -> None:
    draw = np.random.default_rng(seed)
    following = [(i + int(draw.integers(1, n))) % n for i in range(n)]
    assert neighbour_chains(torch.tensor(following)).tolist() == slow_chains(following)


def test_a_chain_is_cut_after_51_items() -> None:
    following = [*range(1, 130), 128]
    found = neighbour_chains(torch.tensor(following))
    assert found.tolist() == slow_chains(following)
    assert int(found.max()) + 1 == 3


def slow_union(graph: np.ndarray, labels: list[int], left: int, context: int) -> list[set[int]]:
    """Dense tables that are made anew at every step from the ways of the first groups."""
    groups = [{i} for i in range(max(labels) + 1)]
    first = np.zeros((len(groups), len(groups)))
    for i in range(len(groups)):
        for j in range(len(groups)):
            if i != j:
                a, b = np.flatnonzero(np.array(labels) == i), np.flatnonzero(np.array(labels) == j)
                first[i, j] = graph[np.ix_(a, b)].sum(0) @ graph[np.ix_(b, a)].sum(1)
    size = [sum(label == i for label in labels) for i in range(len(groups))]
    while len(groups) > left:
        c = len(groups)
        table = np.array([[first[np.ix_([*g], [*h])].sum() * (g is not h) for h in groups] for g in groups])
        sizes = np.array([sum(size[i] for i in g) for g in groups])
        affinity = table / sizes[:, None] ** 2 + (table / sizes[:, None] ** 2).T
        falling = -np.sort(-affinity, axis=1)
        score = falling[:, 0].copy()
        if c > 100:
            score += sum(falling[:, 0] - falling[:, k] for k in range(1, context)) / (context - 1)
        a = int(score.argmax())
        b = int(affinity[a].argmax())
        groups = [g for i, g in enumerate(groups) if i not in (a, b)] + [groups[a] | groups[b]]
    return [{item for item, label in enumerate(labels) if label in g} for g in groups]


@pytest.mark.parametrize(("n", "first", "left", "k"), [(40, 16, 3, 3), (120, 102, 99, 20)])
def test_groups_are_united_as_by_the_slow_twin(n: int, first: int, left: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n)
    rows = torch.randn(n, 3, generator=generator)
    labels = torch.cat([torch.arange(first), torch.randint(first, (n - first,), generator=generator)])
    graph, _ = neighbour_graph(rows, 8)
    found = united(graph, rows, labels, left, k, context=5)
    assert int(found.max()) + 1 == left
    expected = slow_union(graph.toarray(), labels.tolist(), left, context=5)
    assert {frozenset(np.flatnonzero(found == g).tolist()) for g in range(left)} == {frozenset(g) for g in expected}


@pytest.mark.parametrize("count", [101, 100])
def test_with_more_than_100_groups_the_score_looks_at_the_next_affinities(count: int) -> None:
    """A₁ + Σ (A₁ - A_k) / 4 over five groups, those without a path in between at 0."""
    graph, _ = neighbour_graph(torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), 4)
    groups = Groups(ways(graph, torch.arange(count)), [1] * count, context=5)
    table = graph.toarray() * graph.toarray().T
    falling = -np.sort(-(table + table.T), axis=1)
    beyond = (falling[:, :1] - falling[:, 1:5]).sum(1) / 4 if count > 100 else 0.0
    linked = falling[:, 0] > 0
    assert linked.sum() > 50
    assert groups.scores[linked] == pytest.approx((falling[:, 0] + beyond)[linked])


@given(seed=st.integers(0, 100), n=st.integers(6, 40), k=st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_a_union_only_joins_groups_and_leaves_as_many_as_asked(seed: int, n: int, k: int) -> None:
    rows = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    graph, other = neighbour_graph(rows, 3)
    chains = neighbour_chains(other)
    if int(chains.max()) + 1 < k:
        return
    found = united(graph, rows, chains, k, k, context=5)
    assert found.unique().tolist() == list(range(k))
    assert all(len(found[chains == chain].unique()) == 1 for chain in chains.unique())


def test_groups_far_apart_are_found() -> None:
    centres = 20 * torch.eye(3).repeat(10, 1)
    rows = centres + torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    graph, other = neighbour_graph(rows, 5)
    found = united(graph, rows, neighbour_chains(other), 3, 3, context=5)
    assert len({(int(a), i % 3) for i, a in enumerate(found)}) == 3


def test_what_no_way_links_is_united_by_its_means() -> None:
    rows = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    nothing = csr_array((4, 4))
    found = united(nothing, rows, torch.arange(4), 2, 2, context=5)
    assert found[0] == found[1] != found[2] == found[3]
    assert torch.equal(by_means(rows, torch.arange(4), 2), found)


def test_lonely_groups_join_the_nearest_while_groups_are_many() -> None:
    rows = torch.cat([torch.arange(0.0, 44.0), torch.tensor([1000.0])])[:, None]
    n = len(rows)
    graph, _ = neighbour_graph(rows[:-1], 2)
    graph = csr_array((graph.data, graph.indices, [*graph.indptr, graph.indptr[-1]]), shape=(n, n))  # links to nobody
    found = united(graph, rows, torch.arange(n), 43, 2, context=5)  # 45 groups, more than 20 · 2
    assert found[-1] == found[-2]
    kept = united(graph, rows, torch.arange(n), 43, 3, context=5)
    assert int((kept == kept[-1]).sum()) == 1
