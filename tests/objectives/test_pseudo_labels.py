from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from coterie.objectives.pseudo_labels import first_of_each, surest


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 6), st.floats(0.0, 1.0))
def test_the_first_of_each_group_are_those_that_one_counts_off_by_hand(seed: int, n: int, k: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    order, group = torch.randperm(n, generator=generator), torch.randint(k, (n,), generator=generator)
    expected = set()
    for one in range(k):
        members = [row for row in order.tolist() if int(group[row]) == one]
        expected |= set(members[: max(1, int(share * len(members)))] if share else [])
    assert set(first_of_each(order, group, share).nonzero()[:, 0].tolist()) == expected


def test_the_surest_of_a_group_are_its_own_however_sure_others_are() -> None:
    confidence, group = torch.tensor([0.9, 0.3, 0.8, 0.4, 0.7, 0.2]), torch.tensor([0, 2, 0, 2, 0, 2])
    assert surest(confidence, group, 0.5).tolist() == [True, False, False, True, False, False]
    assert surest(confidence, group, 0.7).tolist() == [True, True, True, True, False, False]
    assert not surest(confidence, group, 0.0).any()
