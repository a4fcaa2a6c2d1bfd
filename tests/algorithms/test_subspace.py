"""From coefficients to groups: the authors' numbers, a slow twin, subspaces that are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.algorithms.subspace import largest_entries, spectral_groups, subspace_affinity
from helpers.two_views import waves


def test_affinities_are_those_of_the_authors_code() -> None:
    """`thrC` and `post_proC` of sckangz/SelfsupervisedSC at 6b4f24e (7 May 2021), K=2, d=2, alpha=1.5, ro=0.6, computed
    on 26 November 2026 on a CPU in float64."""
    found = subspace_affinity(waves(9, 9, start=0.2), 2, share=0.6, dimension=2, power=1.5)
    rows = {
        0: [1.0, 0.5320017, 0.4134088, 0.1903234, 0.1610646, 0.2000657, 0.0, 0.0, 0.0],
        4: [0.1610646, 0.1075301, 0.4276579, 0.6615899, 1.0, 0.6729865, 0.3187856, 0.0285249, 0.1878353],
    }
    for row, expected in rows.items():
        torch.testing.assert_close(found[row], torch.tensor(expected), atol=1e-4, rtol=0)


@given(n=st.integers(2, 8), share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_largest_entries_are_their_slow_twin(n: int, share: float, seed: int) -> None:
    numbers = np.random.default_rng(seed).normal(size=(n, n))
    expected = np.zeros((n, n))
    for column in range(n):
        total, wanted = 0.0, share * np.abs(numbers[:, column]).sum()
        for row in sorted(range(n), key=lambda row: -abs(numbers[row, column])):
            expected[row, column] = numbers[row, column]
            total += abs(numbers[row, column])
            if total > wanted:
                break
    assert np.array_equal(largest_entries(torch.from_numpy(numbers), share).numpy(), expected)


def test_a_column_of_zeros_stays_one() -> None:
    coefficients = torch.tensor([[0.0, 6.0], [0.0, -1.0]])
    assert torch.equal(largest_entries(coefficients, 0.12), torch.tensor([[0.0, 6.0], [0.0, 0.0]]))


@pytest.mark.parametrize("n", [40, 520])  # all singular vectors, the leading ones
def test_items_of_one_subspace_are_one_group(n: int) -> None:
    rng = np.random.default_rng(0)
    group = np.arange(n) % 2
    same = group[:, None] == group
    coefficients = torch.from_numpy(same * rng.random((n, n)) + ~same * 0.01 * rng.random((n, n))).float()
    affinity = subspace_affinity(coefficients.fill_diagonal_(0), 2, share=0.5, dimension=2, power=2.0)
    torch.testing.assert_close(affinity, affinity.T, atol=1e-5, rtol=0)
    assert 0 <= float(affinity.min()) <= float(affinity.max()) == 1
    found = spectral_groups(affinity, 2, torch.Generator().manual_seed(0))
    assert len({(int(a), int(b)) for a, b in zip(found, group, strict=True)}) == 2


def test_items_without_any_affinity_are_grouped_all_the_same() -> None:
    found = spectral_groups(torch.block_diag(torch.ones(4, 4), torch.ones(4, 4)), 2, torch.Generator())
    assert len(found[:4].unique()) == len(found[4:].unique()) == 1
    assert found[0] != found[4]


@pytest.mark.parametrize("k", [2, 3, 5, 6])
def test_few_items_can_be_grouped(k: int) -> None:
    affinity = subspace_affinity(waves(6, 6, start=0.1), k, share=0.12, dimension=4, power=5.0)
    found = spectral_groups(affinity, k, torch.Generator().manual_seed(0))
    assert found.shape == (6,)
    assert 0 <= int(found.min()) <= int(found.max()) < k
