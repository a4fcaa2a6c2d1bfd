from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.algorithms.consensus import matched_to, vote_orders, votes
from coterie.types import InputError


@given(st.integers(0, 10_000), st.integers(2, 4))
@settings(deadline=None, max_examples=25)
def test_the_match_is_the_best_of_all_renamings(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference, labels = torch.randint(k, (2, 30), generator=generator)
    order = matched_to(reference, labels, k)
    assert sorted(order.tolist()) == list(range(k))

    def agreeing(order: torch.Tensor) -> int:
        return sum(int(((reference == group) & (labels == order[group])).sum()) for group in range(k))

    assert agreeing(order) == max(agreeing(torch.tensor(other)) for other in permutations(range(k)))


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=10)
def test_renamed_copies_agree_in_every_vote(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(40) % 4
    names = [torch.randperm(4, generator=generator) for _ in range(5)]
    labels = torch.stack([name[truth] for name in names], dim=1)
    orders = vote_orders(labels, 4, 2)
    counted = votes(labels, orders)
    assert torch.equal(counted.argmax(1), labels[:, 2])  # with the names of the third
    assert bool((counted.max(1).values == 5).all())


def test_a_majority_outvotes_the_first_clustering() -> None:
    truth = torch.arange(30) % 3
    wrong = truth.clone()
    wrong[:4] = (wrong[:4] + 1) % 3
    labels = torch.stack([wrong, truth, truth], dim=1)
    counted = votes(labels, vote_orders(labels, 3, 0))
    assert torch.equal(counted.argmax(1), truth)
    assert counted.sum(1).tolist() == [3] * 30


def test_an_empty_group_is_matched_with_one_that_is_left() -> None:
    labels = torch.stack([torch.arange(20) % 2, torch.zeros(20, dtype=torch.int64)], dim=1)
    assert sorted(vote_orders(labels, 3, 0)[1].tolist()) == [0, 1, 2]


def test_a_clustering_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no clustering 2 of 2"):
        vote_orders(torch.zeros(5, 2, dtype=torch.int64), 3, 2)
