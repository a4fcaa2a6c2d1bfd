"""Known manifolds, with the tolerances of the theory: TwoNN's slope has a relative deviation of about 1/√n."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_swiss_roll
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from coterie.algorithms.geometry import (
    Geometry,
    curvature,
    geometry_of,
    intrinsic_dimension,
    intrinsic_dimension_spread,
    linear_dimension,
    singular_values,
)
from coterie.types import InputError
from helpers.draws import seeded


def circle(n: int = 1000) -> Tensor:
    angle = 2 * math.pi * torch.rand(n, generator=seeded())
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def slow_two_nn(points: np.ndarray, tenths: int) -> float:
    """Point by point in float64; `tenths` of the ratios are discarded."""
    found = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(points).kneighbors()[0]
    ratios = sorted(b / a for a, b in found if a > 0 and a != b)
    n = len(ratios)
    pairs = [(math.log(mu), -math.log(1 - (k + 1) / n)) for k, mu in enumerate(ratios[: (10 - tenths) * n // 10])]
    return sum(x * y for x, y in pairs) / sum(x * x for x, y in pairs)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_a_cube_has_its_dimension_whatever_it_lies_in(d: int) -> None:
    cube = torch.rand(5000, d, generator=seeded(d))
    found = intrinsic_dimension(cube)
    assert found == pytest.approx(d, rel=0.1)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=seeded(1)))[0]
    padded = torch.cat([cube, torch.zeros(5000, 8 - d)], dim=1)
    assert intrinsic_dimension(3.0 + 20 * padded @ turn) == pytest.approx(found, rel=2e-3)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_sphere_has_one_dimension_less_than_its_space(d: int) -> None:
    points = torch.nn.functional.normalize(torch.randn(5000, d + 1, generator=seeded(d)))
    assert intrinsic_dimension(points) == pytest.approx(d, rel=0.1)
    assert linear_dimension(points) == d + 1


def test_ten_dimensions_come_out_too_low_as_the_literature_says() -> None:
    assert 8.3 < intrinsic_dimension(torch.rand(5000, 10, generator=seeded())) < 9.1


def test_a_swiss_roll_has_two_dimensions_and_spans_three() -> None:
    roll = make_swiss_roll(4000, random_state=0)[0].astype(np.float32)
    assert intrinsic_dimension(roll) == pytest.approx(2, rel=0.1)
    assert linear_dimension(roll) == 3
    assert curvature(roll) == pytest.approx(1, abs=0.2)


@settings(deadline=None, max_examples=15)
@given(st.integers(20, 200), st.integers(1, 6), st.integers(0, 1000), st.integers(1, 5))
def test_two_nn_is_what_the_formula_says(n: int, d: int, seed: int, tenths: int) -> None:
    points = torch.randn(n, d, generator=seeded(seed))
    slow = slow_two_nn(points.double().numpy(), tenths)
    assert intrinsic_dimension(points, tenths / 10) == pytest.approx(slow, rel=1e-3)
    assert math.isfinite(intrinsic_dimension(points, 0.0))  # the largest ratio, where F is 1, is always left out


def test_two_nn_agrees_with_maximum_likelihood() -> None:
    points = torch.randn(4000, 4, generator=seeded())
    found = NearestNeighbors(n_neighbors=2).fit(points.numpy()).kneighbors()[0]
    likelihood = len(found) / np.log(found[:, 1] / found[:, 0]).sum()
    assert intrinsic_dimension(points) == pytest.approx(likelihood, rel=0.08)


def test_copies_are_left_out() -> None:
    points = torch.rand(1500, 2, generator=seeded())
    assert intrinsic_dimension(torch.cat([points, points[:300]])) == pytest.approx(2, rel=0.15)


def test_random_subsets_give_an_error_bar() -> None:
    points = torch.rand(600, 3, generator=seeded())
    mean, deviation = intrinsic_dimension_spread(points, generator=seeded(), repeats=8)
    assert abs(mean - intrinsic_dimension(points)) < 4 * deviation
    assert 0 < deviation < 0.5


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_linear_subspace_has_at_most_its_rank(rank: int) -> None:
    points = torch.randn(500, rank, generator=seeded()) @ torch.randn(rank, 10, generator=seeded(1))
    assert 1 <= linear_dimension(points) <= rank
    assert linear_dimension(points, 1 - 1e-9) == rank
    assert linear_dimension(points, legacy_zero_based=True) == linear_dimension(points) - 1


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 1000), st.sampled_from([0.5, 0.9, 0.99]))
def test_linear_dimension_counts_singular_values(n: int, d: int, seed: int, share: float) -> None:
    points = torch.randn(n, d, generator=seeded(seed)).double().numpy()
    scored = (points - points.mean(0)) / points.std(0)
    variance = np.linalg.svd(scored, compute_uv=False) ** 2
    enough = np.flatnonzero(np.cumsum(variance) / variance.sum() > share + 1e-9)
    assert linear_dimension(points, share) in {int(enough[0]), int(enough[0]) + 1}  # one component may be at the edge
    assert linear_dimension(points, share) == int(np.argmax(np.cumsum(variance) / variance.sum() > share)) + 1


def test_a_line_is_flat_and_a_circle_is_not() -> None:
    assert intrinsic_dimension(circle()) == pytest.approx(1, rel=0.1)
    assert linear_dimension(circle()) == 2
    assert curvature(circle()) == pytest.approx(1, abs=0.1)
    line = torch.rand(1000, 1, generator=seeded()) @ torch.tensor([[1.0, -2.0, 0.5]])
    assert linear_dimension(line) == 1
    assert curvature(line) == pytest.approx(0, abs=0.1)


def test_constant_features_count_for_nothing() -> None:
    cloud = torch.cat([circle(), torch.full((1000, 3), 0.1)], dim=1)
    assert linear_dimension(cloud) == 2
    assert linear_dimension(torch.full((20, 3), 0.1)) == 0


def test_groups_are_averaged_and_small_ones_passed_over() -> None:
    flat = 10 + torch.rand(800, 2, generator=seeded())
    cloud, groups = torch.cat([circle(800), flat, flat[:40]]), torch.tensor([5] * 800 + [2] * 800 + [9] * 40)
    found = geometry_of(cloud, groups)
    assert found.groups == 2
    assert found.intrinsic == pytest.approx((intrinsic_dimension(circle(800)) + intrinsic_dimension(flat)) / 2)
    assert found.linear == 2
    assert found.curvature == pytest.approx(0.5, abs=0.15)
    assert geometry_of(cloud.numpy(), groups.numpy()) == found
    assert Geometry(1.5, 4.0, 1).curvature == 2.5


def test_a_collapsed_direction_shows_in_the_singular_values() -> None:
    cloud = torch.randn(4000, 3, generator=seeded()) * torch.tensor([5.0, 1.0, 1e-4]) + 100
    found = singular_values(cloud)
    torch.testing.assert_close(found[:2], torch.tensor([5.0, 1.0]), rtol=0.05, atol=0)
    assert found[2] < 1e-3
    assert linear_dimension(cloud) == 3  # z-scores hide it


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="at least 3"):
        intrinsic_dimension(torch.rand(2, 2))
    with pytest.raises(InputError, match="too few points"):
        intrinsic_dimension(torch.ones(50, 2))
    with pytest.raises(InputError, match="discard is 1"):
        intrinsic_dimension(torch.rand(9, 2), discard=1.0)
    with pytest.raises(InputError, match="share is 1"):
        linear_dimension(torch.rand(9, 2), share=1.0)
    with pytest.raises(InputError, match="No group has 50"):
        geometry_of(torch.rand(60, 2), torch.arange(60) % 2)


@pytest.mark.parametrize(
    "points",
    [
        np.full((60, 2), np.nan),
        np.full((60, 2), 1e300),
        np.ones(60),
        np.ones((60, 2), complex),
        torch.ones(60, 2, dtype=torch.complex64),
        [["a", "b"]] * 60,
        [[1.0], [1.0, 2.0]],
        np.ones((0, 2)),
        None,
    ],
)
@pytest.mark.parametrize("measure", [intrinsic_dimension, linear_dimension, geometry_of, singular_values])
@pytest.mark.usefixtures("unchecked_types")
def test_what_is_no_table_of_finite_numbers_is_refused(measure: Any, points: Any) -> None:
    with pytest.raises(InputError, match=r"[.]$"):
        measure(points)


@pytest.mark.parametrize("groups", [np.zeros(59, int), ["a"] * 60, np.zeros((60, 1), int), [0.5] * 60])
@pytest.mark.usefixtures("unchecked_types")
def test_groups_that_do_not_fit_the_points_are_refused(groups: Any) -> None:
    with pytest.raises(InputError, match="a whole number for each of the 60 points"):
        geometry_of(np.random.default_rng(0).normal(size=(60, 2)), groups)


def test_the_callers_settings_of_torch_change_no_number() -> None:
    points = np.random.default_rng(0).normal(size=(200, 6))
    expected = geometry_of(points)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        assert geometry_of(points) == expected


@pytest.mark.parametrize("offset", [0.0, 1e5, 1e9])
def test_points_far_from_the_origin_keep_their_geometry(offset: float) -> None:
    """In float32 points around 1e9 are 64 apart or the same."""
    points = np.random.default_rng(0).random((800, 3)) * [1, 1, 0.01]
    moved = points + offset
    assert intrinsic_dimension(moved) == pytest.approx(intrinsic_dimension(points), rel=1e-2)
    assert intrinsic_dimension(torch.from_numpy(moved)) == pytest.approx(intrinsic_dimension(points), rel=1e-2)
    assert linear_dimension(moved) == 3
    assert singular_values(moved).numpy() == pytest.approx(singular_values(points).numpy(), rel=1e-3)


@pytest.mark.parametrize("size", [1e-35, 1e-25, 1e20, 1e35])
def test_the_intrinsic_dimension_has_no_scale(size: float) -> None:
    points = np.random.default_rng(0).random((300, 2))
    assert intrinsic_dimension(size * points) == pytest.approx(intrinsic_dimension(points), rel=1e-4)


@pytest.mark.parametrize(("name", "value"), [("repeats", 1), ("repeats", 0), ("share", 1.5)])
def test_a_spread_of_fewer_than_two_or_no_subsets_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is {value}: it takes"):
        intrinsic_dimension_spread(torch.rand(60, 3, generator=seeded()), generator=seeded(), **{name: value})
