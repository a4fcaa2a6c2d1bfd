from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.algorithms.neighbours import nearest
from coterie.objectives import proximity as proximities
from coterie.objectives.proximity import (
    Rules,
    choose_filters,
    density_ratio,
    gap_scale,
    neighbours_in_bank,
    proximity,
)


def points(n: int = 200, d: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_hand(z: torch.Tensor, i: int, m: int, core_ratio: float, gap: float) -> tuple[bool, list[int], torch.Tensor]:
    """One point's core flag, reliable neighbours and centroid, the slow obvious way."""
    apart = sorted((math.dist(z[i].tolist(), z[j].tolist()), j) for j in range(len(z)) if j != i)[:m]
    reliable = [j for distance, j in apart if distance - apart[0][0] < gap]
    return apart[0][0] / apart[-1][0] > core_ratio, reliable, z[reliable].mean(0)


@given(st.integers(0, 1000), st.floats(0.2, 0.9), st.floats(0.01, 2.0), st.integers(2, 6))
@settings(deadline=None, max_examples=10)
def test_filters_and_centroids_are_those_of_a_search_by_hand(seed, core_ratio, gap, m):
    z = points(40, 3, seed)
    distance, neighbour = nearest(z, m)
    found = proximity(z, distance, neighbour, core_ratio, gap)
    for i in range(0, len(z), 7):
        core, reliable, centroid = by_hand(z, i, m, core_ratio, gap)
        assert bool(found.core[i]) == core
        assert sorted(neighbour[i][found.reliable[i]].tolist()) == sorted(reliable)
        torch.testing.assert_close(found.centroid[i], centroid)


def test_neighbour_distances_ascend_and_move_with_the_scale_but_not_with_a_rotation():
    z = points()
    distance, _ = nearest(z, 5)
    assert bool((distance.diff(dim=1) >= 0).all())
    assert bool((distance > 0).all())
    turn = torch.linalg.qr(points(4, 4, 1)).Q
    moved, _ = nearest(z @ turn + 3, 5)
    torch.testing.assert_close(moved, distance, rtol=1e-3, atol=1e-4)
    larger, _ = nearest(z * 7, 5)
    torch.testing.assert_close(larger, 7 * distance, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(density_ratio(larger), density_ratio(distance), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dimension", [2, 5, 10])
def test_the_ratio_reads_the_dimension(dimension):
    z = points(20_000, dimension, 3)
    ratio = density_ratio(nearest(z, 5)[0])
    for beta in (0.3, 0.6, 0.8, 0.9):
        assert abs(float((ratio > beta).float().mean()) - (1 - beta**dimension) ** 4) < 0.03


def test_core_points_become_fewer_with_beta_1_and_reliable_neighbours_more_with_beta_2():
    z = points()
    distance, neighbour = nearest(z, 5)
    cores = [proximity(z, distance, neighbour, beta, 1.0).core for beta in (-0.1, 0.3, 0.6, 0.9, 1.0)]
    assert all(bool((later <= earlier).all()) for earlier, later in pairwise(cores))
    assert bool(cores[0].all())
    assert not bool(cores[-1].any())
    sets = [proximity(z, distance, neighbour, 0.5, gap).reliable for gap in (1e-12, 0.1, 0.4, math.inf)]
    assert all(bool((later >= earlier).all()) for earlier, later in pairwise(sets))
    assert sets[0].sum(1).eq(1).all()
    assert bool(sets[-1].all())


def test_the_centroid_of_five_copies_is_their_place():
    z = torch.cat([torch.zeros(1, 3), torch.full((5, 3), 2.0)])
    distance, neighbour = nearest(z, 5)
    found = proximity(z, distance, neighbour, 0.5, 0.1)
    torch.testing.assert_close(found.centroid[0], torch.full((3,), 2.0))
    assert float(found.ratio[1]) == 0.0  # four copies at distance 0, and the far point


def test_copies_only_have_the_ratio_one():
    distance, _ = nearest(torch.ones(7, 2), 5)
    assert density_ratio(distance).eq(1).all()


@given(st.floats(0.1, 0.9), st.floats(0.3, 0.9), st.sampled_from(["absolute", "relative", "median"]))
@settings(deadline=None, max_examples=15)
def test_chosen_filters_give_the_wanted_shares(core_share, accepted, kind):
    z = points(600)
    distance, neighbour = nearest(z, 5)
    core_ratio, gap = choose_filters(distance, core_share, accepted, kind)
    found = proximity(z, distance, neighbour, core_ratio, gap, scale=gap_scale(distance, kind))
    assert found.core_share == pytest.approx(core_share, abs=0.01)
    assert float(found.reliable[found.core].float().mean()) == pytest.approx(accepted, abs=0.03)


@pytest.mark.parametrize("kind", ["absolute", "median"])
@pytest.mark.parametrize(
    "rules",
    [
        Rules("running", "own_code"),
        Rules("running"),
        Rules("global", "own_code"),
        Rules("global"),
        Rules("zero"),
        Rules(core_sense="below"),
        Rules("running", "own_code", "below", "left_out"),
    ],
    ids=str,
)
def test_chosen_filters_give_the_wanted_shares_however_they_are_read(rules, kind):
    z = (
        points(1000) * torch.linspace(0.3, 1, 1000)[:, None]
    )  # the nearest neighbours of some are farther than of others
    distance, neighbour = nearest(z, 4)
    core_ratio, gap = choose_filters(distance, 0.3, 0.65, kind, rules)
    found = proximity(z, distance, neighbour, core_ratio, gap, scale=gap_scale(distance, kind), rules=rules)
    assert found.core_share == pytest.approx(0.3, abs=0.01)
    assert float(found.reliable[found.core].float().mean()) == pytest.approx(0.65, abs=0.03)


@pytest.mark.parametrize("sense", ["above", "below"])
@pytest.mark.parametrize("copies", ["core", "left_out"])
def test_what_a_copy_is_does_not_depend_on_the_side_on_which_core_items_lie(sense, copies):
    """Among copies r is 1: with core items below β1 `copies=core` made them the contrary."""
    z = points(300)
    z[200:] = z[200]
    distance, neighbour = nearest(z, 4)
    rules = Rules(core_sense=sense, copies=copies)
    core_ratio, gap = choose_filters(distance, 0.5, 0.65, "median", rules)
    found = proximity(z, distance, neighbour, core_ratio, gap, rules=rules)
    alike = distance[:, -1] == 0
    assert int(alike.sum()) == 100
    assert bool(found.core[alike].all()) is (copies == "core")
    assert bool(found.core[alike].any()) is (copies == "core")
    if copies == "core":
        assert found.core_share == pytest.approx(0.5, abs=0.01)


def test_more_points_than_pytorch_has_quantiles_of_get_the_wanted_share_too(monkeypatch):
    """From 16.8 million points on it was half of them."""
    monkeypatch.setattr(proximities, "QUANTILES_OF", 100)
    distance, neighbour = nearest(points(600), 5)
    core_ratio, gap = choose_filters(distance, 0.2, 0.65, "absolute")
    assert proximity(points(600), distance, neighbour, core_ratio, gap).core_share == pytest.approx(0.2, abs=0.01)


def test_gaps_in_medians_do_not_depend_on_the_scale_of_the_points():
    z = points()
    for factor in (1.0, 1e-3):
        distance, neighbour = nearest(z * factor, 5)
        found = proximity(z * factor, distance, neighbour, 0.5, 0.5, scale=gap_scale(distance, "median"))
        if factor == 1.0:
            expected = found.reliable
    assert torch.equal(found.reliable, expected)


def test_an_items_own_row_is_no_neighbour_in_the_bank():
    bank, index = points(50), torch.tensor([3, 9, 40])
    distance, neighbour = neighbours_in_bank(bank, bank[index], index, 5)
    expected, expected_rows = nearest(bank, 5)
    torch.testing.assert_close(distance, expected[index], rtol=1e-4, atol=1e-5)
    assert torch.equal(neighbour, expected_rows[index])
    # A fresh code far from the item's old row: that row is left out all the same.
    far = bank[index] + 100
    _, neighbour = neighbours_in_bank(bank, far, index, 5)
    assert not bool((neighbour == index[:, None]).any())


def test_permuting_the_items_permutes_everything():
    z, order = points(80), torch.randperm(80, generator=torch.Generator().manual_seed(2))
    first = proximity(z, *nearest(z, 5), 0.6, 0.3)
    second = proximity(z[order], *nearest(z[order], 5), 0.6, 0.3)
    assert torch.equal(second.core, first.core[order])
    torch.testing.assert_close(second.centroid, first.centroid[order])
