"""DDC-UCO: its terms beside the authors' numbers and slow twins, tensor kernels, companions, clipping, settings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.contract import Facts
from coterie.methods.ddc_uco import (
    DDCUCO,
    basis_of,
    cauchy_schwarz,
    kernel,
    modes_of,
    overlap,
    projection_distances,
    shared,
    shrunk,
    squared_distances,
    to_corners,
)
from coterie.networks.backbones import build_backbone
from coterie.networks.blocks import block_maps
from coterie.networks.net import Net
from coterie.types import Batch, ItemSpec
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.two_views import waves

K, SIDE, SIZE = 3, 8, 12
SPEC = ItemSpec("images", channels=1, height=SIDE, width=SIDE)


def net_of(method: DDCUCO, name: str = "ddc-uco") -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone(name, SPEC), SPEC, torch.zeros(1), torch.ones(1), half=False)
    net.add(method.heads(net, K))
    return net.train()


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {"clean": torch.rand(SIZE, 1, SIDE, SIDE, generator=generator)}
    return batch_of_views(views, generator=generator)


# The terms


@pytest.mark.parametrize(
    ("n", "k", "shape", "expected", "to_hidden", "to_answers"),
    [
        (
            8,
            3,
            (3, 4, 5),
            (0.8047151565551758, 0.3210511803627014, 0.8976634740829468, 0.006212400272488594),
            (0.003481712192296982, -0.00632927380502224, -0.013163503259420395, -0.013806728646159172),
            (0.0002178387949243188, -0.0005005139973945916, 0.0002826752024702728),
        ),
        (
            6,
            2,
            (5, 2, 2),
            (0.8873152136802673, 0.4831981062889099, 0.9030539989471436, 0.007385765668004751),
            (0.012247134931385517, 0.004142880439758301, -0.005909845232963562, -0.013183068484067917),
            (0.0006328001036308706, -0.0006328001618385315),
        ),
    ],
)
def test_the_terms_are_those_of_the_authors_code(
    n: int,
    k: int,
    shape: tuple[int, ...],
    expected: tuple[float, ...],
    to_hidden: tuple[float, ...],
    to_answers: tuple[float, ...],
) -> None:
    """`DDC1`, `DDC2`, `DDC3` and `UCO` of DanielTrosten/tk-uco at 537cb74 (20 June 2022), PyTorch, computed on 26
    November 2026 on a CPU in float32, with the projection distance 2 (m - trace) of its TensorFlow code, which made
    the paper's numbers; the PyTorch one has 2 m - trace."""
    hidden, z = waves(n, 5, start=0).requires_grad_(), (2 * waves(n, k, start=1)).requires_grad_()
    maps = (waves(n, *shape, start=2) * waves(n, *shape, start=0.3).cos()).relu()
    p, near = z.softmax(1), kernel(squared_distances(hidden), 0.15)
    companion = 0.01 * cauchy_schwarz(p, kernel(projection_distances(maps), 0.15))
    found = (cauchy_schwarz(p, near), overlap(p), cauchy_schwarz(to_corners(p), near), companion)
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected), atol=1e-5, rtol=5e-4)
    (slope,) = torch.autograd.grad(found[0], hidden, retain_graph=True)
    torch.testing.assert_close(slope[0, :4], torch.tensor(to_hidden), atol=1e-5, rtol=1e-3)
    (slope,) = torch.autograd.grad(companion, z)
    torch.testing.assert_close(slope[0], torch.tensor(to_answers), atol=5e-6, rtol=5e-3)


def slow_divergence(a: Any, near: Any) -> float:
    """A pair of groups, and of items, at a time."""
    n, k = len(a), len(a[0])

    def between(x: int, y: int) -> float:
        return sum(a[i][x] * near[i][j] * a[j][y] for i in range(n) for j in range(n))

    pairs = [(x, y) for x in range(k) for y in range(x + 1, k)]
    return sum(between(x, y) / math.sqrt(between(x, x) * between(y, y)) for x, y in pairs) / len(pairs)


@given(n=st.integers(2, 7), k=st.integers(2, 4), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_divergence_overlap_and_corners_are_their_slow_twins(n: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = (2 * torch.randn(n, k, generator=generator, dtype=torch.float64)).softmax(1)
    near = (-torch.rand(n, n, generator=generator, dtype=torch.float64)).exp()
    near = (near + near.T) / 2
    found = cauchy_schwarz(p, near).item()
    assert found == pytest.approx(slow_divergence(p.tolist(), near.tolist()), rel=1e-9)
    pairs = [float(p[i] @ p[j]) for i in range(n) for j in range(i + 1, n)]
    assert overlap(p).item() == pytest.approx(np.mean(pairs), rel=1e-9)
    each = [[math.exp(-float((row - corner).square().sum())) for corner in torch.eye(k).double()] for row in p]
    torch.testing.assert_close(to_corners(p), torch.tensor(each, dtype=torch.float64))


def test_sure_groups_that_lie_far_apart_have_no_divergence_and_equal_groups_have_all() -> None:
    sure = torch.eye(3).repeat(4, 1)
    # The kernel's width goes by the median, which is the distance of the groups here.
    apart = kernel(squared_distances(100 * sure), 0.15)
    assert cauchy_schwarz(sure, apart).item() == pytest.approx(math.exp(-1 / 0.3))
    assert cauchy_schwarz(torch.full((12, 3), 1 / 3), kernel(torch.rand(12, 12), 0.15)).item() == pytest.approx(1)
    assert overlap(sure).item() == pytest.approx((12 / 3 - 1) / 11)


def test_an_empty_group_and_equal_items_leave_everything_finite() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).requires_grad_()
    found = cauchy_schwarz(p, kernel(torch.zeros(2, 2), 0.15))
    found.backward()
    assert math.isfinite(found.item())
    assert p.grad is not None
    assert bool(torch.isfinite(p.grad).all())


# Tensor kernels


def slow_projection_distance(one: np.ndarray, other: np.ndarray) -> float:
    """By singular vectors, a mode at a time; the matrices have full rank."""
    total = 0.0
    for mode in range(3):
        matrices = [np.moveaxis(x, mode, 0).reshape(x.shape[mode], -1) for x in (one, other)]
        flat = [m if m.shape[0] <= m.shape[1] else m.T for m in matrices]
        first, second = (np.linalg.svd(m, full_matrices=False)[2] for m in flat)
        total += 2 * (len(first) - float(((first @ second.T) ** 2).sum()))
    return total


@pytest.mark.parametrize("shape", [(3, 4, 5), (7, 2, 2), (2, 5, 3)])
def test_projection_distances_are_those_of_singular_vectors(shape: tuple[int, ...]) -> None:
    maps = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    found, numbers = projection_distances(maps), maps.double().numpy()
    expected = [[slow_projection_distance(x, y) for y in numbers] for x in numbers]
    torch.testing.assert_close(found, torch.tensor(expected).float(), atol=1e-3, rtol=1e-3)


def test_a_space_is_the_same_whatever_its_scale_and_dead_channels_count_for_nothing() -> None:
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    maps[1] = 7 * maps[0]
    assert projection_distances(maps)[0, 1].item() == pytest.approx(0, abs=1e-3)
    maps[:, 2] = 0  # as behind a ReLU
    maps.requires_grad_()
    distances = projection_distances(maps)
    distances.sum().backward()
    assert maps.grad is not None
    assert bool(torch.isfinite(maps.grad).all())


def test_numbers_that_are_not_finite_stay_so_and_raise_nothing() -> None:
    maps = torch.full((2, 2, 3, 3), torch.nan)
    assert not bool(torch.isfinite(projection_distances(maps)).any())


def test_both_ways_to_compare_bases_are_one() -> None:
    for n, m, e in ((4, 3, 5), (4, 2, 9)):  # by projectors, by bases
        basis = basis_of(torch.randn(n, m, e, generator=torch.Generator().manual_seed(m)))
        torch.testing.assert_close(basis @ basis.mT, torch.eye(m).expand(n, m, m), atol=1e-4, rtol=0)
        torch.testing.assert_close(shared(basis), torch.einsum("ame,bke->abmk", basis, basis).square().sum((2, 3)))


def test_every_mode_is_a_matrix_no_higher_than_wide_and_large_maps_are_averaged() -> None:
    maps = torch.arange(2 * 6 * 2 * 2.0).view(2, 6, 2, 2)
    assert [tuple(rows.shape) for rows in modes_of(maps)] == [(2, 4, 6), (2, 2, 12), (2, 2, 12)]
    assert shrunk(torch.rand(2, 3, 100, 50)).shape == (2, 3, 64, 50)
    assert shrunk(maps) is maps


# Steps


def test_a_step_has_a_companion_for_every_map_and_for_the_features_where_there_is_none() -> None:
    main = {"divergence", "overlap", "corners"}
    for name, companions in (("ddc-uco", 2), ("small-4", 1), ("dcgan-32", 1)):
        method = DDCUCO(hidden=6)
        (losses,) = method.step(net_of(method, name), a_batch())
        assert set(losses) == main | {f"companion{i + 1}" for i in range(companions)}
    method = DDCUCO(hidden=6, companion_weight=0)
    (losses,) = method.step(net_of(method), a_batch())
    assert set(losses) == main


def test_groups_are_compared_by_the_hidden_layer_their_corners_too_and_by_every_map() -> None:
    method = DDCUCO(hidden=6, bandwidth=0.4, companion_weight=0.5, companion_growth="linear")
    twin, batch = net_of(method), a_batch()
    with block_maps(twin) as kept:
        hidden = twin.hidden(twin.backbone(batch.clean))
    p, near = twin.cluster(hidden).softmax(1), kernel(squared_distances(hidden), 0.4)
    first, second = (cauchy_schwarz(p, kernel(projection_distances(one), 0.4)) for one in kept)
    expected = {
        "divergence": cauchy_schwarz(p, near),
        "overlap": overlap(p),
        "corners": cauchy_schwarz(to_corners(p), near),
        "companion1": 0.25 * first,
        "companion2": 0.5 * second,
    }
    (losses,) = method.step(net_of(method), batch)
    torch.testing.assert_close(dict(losses), expected)


def test_companions_weigh_as_asked() -> None:
    assert DDCUCO().weights(2) == [0.01, 0.01]
    assert DDCUCO(companion_growth="linear").weights(2) == pytest.approx([0.005, 0.01])
    assert DDCUCO(companion_growth="exponential").weights(3) == pytest.approx([0.0001, 0.001, 0.01])


def test_the_step_logs_what_the_net_answers() -> None:
    method = DDCUCO(hidden=6)
    net, twin, batch = net_of(method), net_of(method), a_batch()
    list(method.step(net, batch))
    p = method.logits(twin, twin.backbone(batch.clean))["cluster"].softmax(1)
    torch.testing.assert_close(batch.logged["confidence"], p.amax(1).mean())
    assert batch.counts is not None
    assert torch.equal(batch.counts, p.argmax(1).bincount(minlength=K))


@pytest.mark.parametrize(("clip", "length"), [(1e-3, 1e-3), (1e6, None)])
def test_a_long_gradient_is_shortened(clip: float, length: float | None) -> None:
    method = DDCUCO(hidden=6, clip=clip)
    net, batch = net_of(method), a_batch()
    optimiser = method.optimiser(net)
    (losses,) = method.step(net, batch)
    torch.stack(list(losses.values())).sum().backward()

    def norm() -> Tensor:
        return torch.stack([p.grad.norm() for p in net.parameters() if p.grad is not None]).norm()

    before = norm()
    optimiser.step()
    assert norm().item() == pytest.approx(float(before) if length is None else length, rel=1e-3)


# Settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 2}, r"ddc_uco\.batch_size is 2: .* at least 3"),
        ({"bandwidth": 0}, r"ddc_uco\.bandwidth is 0"),
        ({"companion_growth": "cubic"}, r"ddc_uco\.companion_growth is 'cubic'"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    facts = Facts(n=1000, k=K, kind="images", device="cpu", side=SIDE)
    refused_in_plan("ddc_uco", given, facts, message)
