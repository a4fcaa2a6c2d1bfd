"""Calibration targets: the mean prediction of a mini-cluster (CDC, Eq. 1)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.algorithms.kmeans import kmeans
from coterie.objectives.mini_clusters import cell_means, means_by_cell, practical_cells
from helpers.draws import probabilities, seeded

seeds = st.integers(0, 10_000)


@given(n=st.integers(1, 40), k=st.integers(2, 6), cells=st.integers(1, 12), seed=seeds)
@settings(max_examples=60, deadline=None)
def test_targets_are_the_means_of_the_mini_clusters(n: int, k: int, cells: int, seed: int) -> None:
    p, cell = probabilities(n, k, seed), torch.randint(0, cells, (n,), generator=seeded(seed))
    target = means_by_cell(p, cell, cells)
    for i in range(n):
        members = [p[j] for j in range(n) if cell[j] == cell[i]]
        torch.testing.assert_close(target[i], sum(members) / len(members))
    torch.testing.assert_close(target.sum(1), torch.ones(n))
    assert bool((target >= 0).all())
    torch.testing.assert_close(target.mean(0), p.mean(0))


@given(k=st.integers(2, 6), cells=st.integers(1, 8), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_targets_never_raise_the_mean_confidence_and_finer_cells_never_lower_it(k: int, cells: int, seed: int) -> None:
    """Theorem 1."""
    n = 40
    p, cell = probabilities(n, k, seed), torch.randint(0, cells, (n,), generator=seeded(seed))
    finer = cell + cells * torch.randint(0, 2, (n,), generator=seeded(seed + 1))

    def confidence(targets: Tensor) -> float:
        return targets.amax(1).mean().item()

    coarse = confidence(means_by_cell(p, cell, cells))
    assert coarse <= confidence(means_by_cell(p, finer, 2 * cells)) + 1e-6 <= confidence(p) + 2e-6
    # A mini-cluster of one label keeps its confidence.
    assert confidence(means_by_cell(p, p.argmax(1), k)) == pytest.approx(confidence(p), abs=1e-6)


def test_one_mini_cluster_gives_the_mean_and_as_many_as_images_change_nothing() -> None:
    p, features = probabilities(30, 4), torch.rand(30, 8, generator=seeded(1))
    torch.testing.assert_close(cell_means(features, p, 1, seeded()), p.mean(0).expand(30, 4))
    assert torch.equal(cell_means(features, p, 30, seeded()), p)


def test_targets_follow_the_order_of_images_and_groups() -> None:
    p, cell = probabilities(30, 4), torch.randint(0, 5, (30,), generator=seeded(1))
    rows, columns = torch.randperm(30, generator=seeded(2)), torch.randperm(4, generator=seeded(2))
    target = means_by_cell(p, cell, 5)
    torch.testing.assert_close(means_by_cell(p[rows], cell[rows], 5), target[rows])
    torch.testing.assert_close(means_by_cell(p[:, columns], cell, 5), target[:, columns])


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("none", None)])
def test_mini_clusters_are_those_of_the_normalised_features(norm: str, order: int | None) -> None:
    features, p = torch.rand(60, 32, generator=seeded(5)) * torch.rand(60, 1, generator=seeded(3)), probabilities(60, 4)
    scaled = features if order is None else features / features.norm(p=order, dim=1, keepdim=True)
    expected = means_by_cell(p, kmeans(scaled, 7, generator=seeded(9)).labels, 7)
    torch.testing.assert_close(cell_means(features, p, 7, seeded(9), norm), expected)


@given(k=st.integers(2, 300), more=st.floats(1.0, 30.0))
def test_the_practical_number_keeps_mini_clusters_small_and_several_to_a_group(k: int, more: float) -> None:
    batch = round(20 * k * more)
    cells = practical_cells(batch, k)
    assert cells >= 4 * k
    assert 2 <= batch / cells <= 25
    assert cells == 4 * k or batch / (cells - 1) > 25
    assert practical_cells(3, 2) == 2  # where there is no room for that
