from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from coterie.algorithms.agglomeration import by_mutual_neighbours, ordered_pairs


def by_hand(rows: np.ndarray, k: int, width: int) -> np.ndarray:
    """Lists, pairs, a sort, and groups that are renamed one after the other."""
    n = len(rows)
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    lists = [[j for j in np.argsort(distance[i], kind="stable") if j != i] for i in range(n)]
    rank = {(i, j): p + 1 for i in range(n) for p, j in enumerate(lists[i])}
    group = np.arange(n)
    tried = 0
    while True:
        pairs = [
            (rank[i, j] + rank[j, i], distance[i, j], i, j)
            for i in range(n)
            for j in range(i)
            if tried < max(rank[i, j], rank[j, i]) <= width
        ]
        for _, _, i, j in sorted(pairs):
            if len(set(group)) > k and group[i] != group[j]:
                group[group == group[i]] = group[j]
        if len(set(group)) == k:
            return group
        tried, width = width, min(2 * width, n - 1)


@given(st.integers(0, 200), st.integers(4, 24), st.integers(1, 4), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_groups_are_united_as_the_paper_says(draw: int, n: int, k: int, width: int) -> None:
    rows = torch.randn(n, 2, generator=torch.Generator().manual_seed(draw))
    found = by_mutual_neighbours(rows, k, width).numpy()
    assert sorted(set(found.tolist())) == list(range(k))
    assert adjusted_rand_score(by_hand(rows.double().numpy(), k, min(width, n - 1)), found) == 1.0


def test_pairs_are_ordered_by_the_sum_of_their_ranks() -> None:
    """On a line 0, 1, 3, 7: 0 and 1 are each other's first; 1 and 3 second and first; 3 and 7 third and first."""
    pairs, order = ordered_pairs(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), 3, 3)
    named = {tuple(pair): place for pair, place in zip(pairs.T.tolist(), order.tolist(), strict=True)}
    assert [pair for pair, _ in sorted(named.items(), key=lambda item: item[1])] == [
        (0, 1),  # 1 + 1
        (1, 2),  # 2 + 1
        (0, 2),  # 2 + 2, 3 apart
        (2, 3),  # 3 + 1, 4 apart
        (1, 3),  # 3 + 2
        (0, 3),  # 3 + 3
    ]


def test_of_pairs_of_one_value_the_closer_comes_first_however_close_both_are() -> None:
    """On a line with steps of 4e-8, 3e-8 and 5e-8 to the next pair: distances that 1 + d would round to one number."""
    rows = torch.tensor([[0.0], [4.0], [20.0], [23.0], [40.0], [45.0]]) * 1e-8
    pairs, order = ordered_pairs(rows, 1, 1)
    assert pairs[0, order.argsort()].tolist() == [2, 0, 4]


def test_copies_are_united_first() -> None:
    rows = torch.tensor([[0.0], [0.0], [5.0], [5.0], [5.0], [9.0]])
    assert by_mutual_neighbours(rows, 3, 2).tolist() == [0, 0, 1, 1, 1, 2]


def test_most_of_the_digits_are_chained_into_one_group() -> None:
    rows = torch.from_numpy(load_digits().data).float()
    sizes = by_mutual_neighbours(rows, 10, 10).bincount()
    assert len(sizes) == 10
    assert float(sizes.max()) / len(rows) == pytest.approx(0.9, abs=0.05)  # spec: 90 % of the data
