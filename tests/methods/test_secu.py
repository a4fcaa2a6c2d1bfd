from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.contract import begin_epoch, passes_of, predict, rates_of, views_of
from coterie.methods.secu import NONE, CentreSets, SeCu, centre_loss, late_cosine, move_costs, view_loss
from coterie.networks.net import Net
from coterie.types import Batch, EpochStart
from coterie.views import ViewSettings
from helpers.batches import batch_of_views
from helpers.two_views import DIM, SIZE, Fixed, blobs, net_of, touched, waves

METHOD = SeCu(batch_size=SIZE, sets=2, hidden=7, projector_out=5)


def net_with_labels(method: SeCu = METHOD, n: int = 2 * SIZE) -> Net:
    net = net_of(method)
    method.start(net, lambda: torch.zeros(n, 1), 3, torch.Generator())
    return net


def batch_of(index: Tensor) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(len(index), DIM, generator=generator) for name in ("one", "two")}
    return batch_of_views(views, index=index, generator=generator)


# Two epochs of the authors' code

STEPS = ([*range(8)], [*range(8, 16)], [1, 3, 5, 7, 8, 10, 12, 14], [0, 2, 4, 6, 9, 11, 13, 15])
SAID: dict[str, dict[str, Any]] = {
    "size": {
        "losses": [
            (5.047720909118652, 0.8563535213470459),
            (5.166919708251953, 0.8411142230033875),
            (5.3164777755737305, 0.6541287899017334),
            (5.201817512512207, 0.8496073484420776),
        ],
        "labels": [[2, 0, 1, 1, 2, 2, 0, 1, 2, 1, 0, 0, 1, 1, 0, 2], [2, 0, 5, 1, 4, 2, 5, 3, 4, 4, 5, 0, 4, 1, 0, 2]],
        "prices": [0.005, 0.0, 0.02, 0.0025, 0.0075, 0.01, 0.0225, 0.0, 0.0],
        "centre": [
            0.9068259000778198,
            0.114377461373806,
            -0.6498920917510986,
            -1.0265347957611084,
            -0.8384097814559937,
        ],
    },
    "entropy": {
        "losses": [
            (5.047720909118652, 0.8563535213470459),
            (5.309236526489258, 0.9508870840072632),
            (5.289070129394531, 0.8462876081466675),
            (5.201817512512207, 0.9833850860595703),
        ],
        "labels": [[2, 2, 0, 1, 2, 2, 0, 1, 2, 1, 0, 0, 1, 1, 0, 2], [2, 0, 5, 1, 4, 2, 5, 3, 4, 4, 5, 0, 4, 1, 0, 2]],
        "counts": [5, 5, 6, 3, 2, 3, 1, 4, 3],
        "centre": [
            1.0494742393493652,
            0.6390489935874939,
            -0.04544789344072342,
            -0.6820868253707886,
            -0.9714465737342834,
        ],
    },
}


@pytest.mark.parametrize("constraint", ["size", "entropy"])
def test_two_epochs_are_those_of_the_authors(constraint: Any) -> None:
    """`SeCu.forward` of idstcv/SeCu at af6a992 on 16 items, alpha 1.92, and torch's SGD on the centres."""
    net, said = net_with_labels(), SAID[constraint]
    method = replace(METHOD, constraint=constraint)
    with torch.no_grad():
        net.sets.centres.copy_(torch.cat([waves(3, 5, start=2.0), waves(6, 5, start=2.5)]))
    net.sets.frozen.copy_(F.normalize(torch.cat([waves(3, 5, start=0.2), waves(6, 5, start=0.9)])))
    optimiser = torch.optim.SGD([net.sets.centres], 1.2, momentum=0.9, weight_decay=1e-4)
    slopes = []
    for number, rows in enumerate(STEPS):
        one = waves(8, 5, start=0.3 + number).requires_grad_()
        net.project = Fixed(one, waves(8, 5, start=0.8 + number) + 0.2)
        (losses,) = method.step(net, batch_of(torch.tensor(rows)))
        found = (losses["embedding"].item(), losses["centre"].item())
        assert found == pytest.approx(said["losses"][number], rel=1e-5)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        assert one.grad is not None
        slopes.append(one.grad[0])
        optimiser.step()
    assert net.labels.rows.T.tolist() == said["labels"]
    torch.testing.assert_close(net.sets.centres[0].detach(), torch.tensor(said["centre"]), rtol=1e-4, atol=1e-5)
    expected = [
        -0.06163880228996277,
        -0.03349411487579346,
        0.010403335094451904,
        0.049407958984375,
        0.06517525017261505,
    ]
    torch.testing.assert_close(slopes[0], torch.tensor(expected), rtol=1e-3, atol=1e-5)
    if constraint == "size":
        assert net.sets.prices.tolist() == pytest.approx(said["prices"], abs=1e-6)
    else:
        assert net.sets.counts.tolist() == said["counts"]


# The constraints


@given(st.integers(0, 10_000), st.integers(2, 5), st.floats(0.0, 0.95), st.floats(0.0, 0.5))
@settings(deadline=None, max_examples=20)
def test_prices_follow_the_sizes_of_a_batch(seed: int, k: int, least: float, rate: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    distance, sets = torch.randn(9, k, generator=generator), CentreSets(2, k, 1)
    sets.prices.copy_(torch.rand(k, generator=generator))
    before = sets.prices.tolist()
    method = replace(METHOD, least_size=least, dual_rate=rate)
    label = method.assign(sets, 0, distance, torch.full((9,), NONE), 9).tolist()
    for row, own in zip(distance.tolist(), label, strict=True):
        assert own == min(range(k), key=lambda j: row[j] - before[j])
    wanted = [max(0.0, price - rate * label.count(j) / 9 + rate * least / k) for j, price in enumerate(before)]
    assert sets.prices.tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_size_constraint_fills_all_groups_even_where_all_items_are_alike() -> None:
    sets, method = CentreSets(2, 4, 1), METHOD
    sizes = torch.zeros(4)
    for _ in range(400):
        label = method.assign(sets, 0, torch.tensor([[0.0, 0.1, 0.2, 0.3]]).expand(8, 4), torch.full((8,), NONE), 100)
        sizes += label.bincount(minlength=4)
    assert (sizes / sizes.sum()).min() > 0.2  # of 0.9/4, but for what the first steps cost


@pytest.mark.parametrize(
    "method", [replace(METHOD, least_size=0.0), replace(METHOD, constraint="entropy", evenness=0.0)]
)
def test_without_a_constraint_an_item_gets_its_nearest_centre(method: SeCu) -> None:
    sets, distance = CentreSets(2, 4, 1), torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        label = method.assign(sets, 0, distance, torch.full((20,), NONE), 60)
        assert torch.equal(label, distance.argmin(1))


def disorder_of(counts: list[int], total: int) -> float:
    return sum(c / total * math.log(c / total) for c in counts if c)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=5), st.data())
@settings(deadline=None, max_examples=40)
def test_a_move_costs_what_the_entropy_loses(counts: list[int], data: st.DataObject) -> None:
    total, k = sum(counts), len(counts)
    own = data.draw(st.sampled_from([j for j in range(k) if counts[j]] or [NONE]))
    found = move_costs(torch.tensor(counts), torch.tensor([own, NONE]))
    for to in range(k):
        moved = list(counts)
        if own != NONE:
            moved[own] -= 1
            moved[to] += 1
            assert found[0, to].item() == pytest.approx(
                disorder_of(moved, total) - disorder_of(counts, total), abs=1e-6
            )
        joined = [count + (j == to) for j, count in enumerate(counts)]
        first = disorder_of(joined, total + 1) - disorder_of(counts, total + 1) if total else 0.0
        assert found[1, to].item() == pytest.approx(first, abs=1e-6)


def test_counts_are_those_of_the_labels() -> None:
    method, net = replace(METHOD, constraint="entropy"), net_with_labels()
    for number, rows in enumerate(STEPS):
        next(method.step(net, batch_of(torch.tensor(rows))))
        known = net.labels.rows[net.labels.rows[:, 0] != NONE].long()
        assert len(known) == (8 if number == 0 else 16)
        expected = [known[:, j].bincount(minlength=size) for j, size in enumerate(net.sets.sizes)]
        assert torch.equal(net.sets.counts, torch.cat(expected))


# The losses


def test_a_centre_learns_from_its_own_items_alone() -> None:
    x, label = F.normalize(waves(1, 5, start=0.3)), torch.tensor([1])
    w = F.normalize(waves(4, 5, start=1.0)).requires_grad_()
    centre_loss(x @ w.T, label, 0.05).backward()
    p = (x @ w.detach().T / 0.05).softmax(1)[0, 1]
    expected = torch.zeros(4, 5)
    expected[1] = -(1 - p) * x[0] / 0.05
    torch.testing.assert_close(w.grad, expected, rtol=1e-4, atol=1e-6)


def test_the_embeddings_learn_a_mixture_of_label_and_other_view() -> None:
    one, other, label = (
        waves(6, 4, start=0.1).requires_grad_(),
        waves(6, 4, start=0.9),
        torch.tensor([0, 1, 2, 3, 0, 1]),
    )
    hard, said = F.one_hot(label, 4), (other / 0.3).softmax(1)
    expected = F.cross_entropy(one / 0.3, 0.2 * hard + 0.8 * said)
    torch.testing.assert_close(view_loss(one, other, label, 0.2, 0.3), expected)
    torch.testing.assert_close(view_loss(one, other, label, 1.0, 0.3), F.cross_entropy(one / 0.3, label))


def test_everything_is_trained() -> None:
    net = net_with_labels()
    for losses in METHOD.step(net, batch_of(torch.arange(SIZE))):
        torch.stack(list(losses.values())).sum().backward()
    assert touched(net) == {"backbone", "project", "sets"}
    groups = METHOD.optimiser(net).param_groups
    assert [group["name"] for group in groups] == ["net", "centres"]
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in net.parameters()}


def test_the_embeddings_learn_from_the_centres_of_the_epochs_beginning() -> None:
    net = net_with_labels()
    with torch.no_grad():
        net.sets.centres.mul_(3).add_(0.1)
    kept = net.sets.frozen.clone()
    next(METHOD.step(net, batch_of(torch.arange(SIZE))))
    assert torch.equal(net.sets.frozen, kept)
    begin_epoch(METHOD, net, EpochStart(1, lambda **_: torch.zeros(0), torch.Generator()))
    torch.testing.assert_close(net.sets.frozen, F.normalize(net.sets.centres.detach()))


# Rates, views and the answer


def authors_factor(step: int, steps: int, epochs: int) -> float:
    """`adjust_learning_rate` there, over the base rate."""
    if step < 11 * steps:
        return 0.0 if step < steps else max(1, step - steps) / (10 * steps)
    return (1 + math.cos(math.pi * (step - 11 * steps) / ((epochs - 11) * steps))) / 2


@pytest.mark.parametrize("step", [0, 390, 392, 1000, 4300, 4301, 4302, 20_000, 156_790])
def test_the_net_stands_still_and_then_learns_at_the_authors_rate(step: int) -> None:
    groups = [{"name": "net"}, {"name": "centres"}]
    factors = rates_of(METHOD, step / (391 * 401), groups)
    assert factors == pytest.approx([authors_factor(step, 391, 401), 1.0], abs=1e-9)


def test_the_rate_has_no_gap_where_nothing_warms_up() -> None:
    assert [late_cosine(p, 0.1, 0.1) for p in (0.0, 0.05, 0.1)] == [0.0, 0.0, 1.0]
    assert late_cosine(0.5, 0.0, 0.0) == pytest.approx(0.5)


def test_the_answer_is_the_cosine_with_the_first_sets_centres() -> None:
    net, features = net_with_labels().eval(), blobs()
    x, w = F.normalize(net.project(features)), F.normalize(net.sets.centres[:3])
    torch.testing.assert_close(predict(METHOD, net, features)["softmax"], (x @ w.T / 0.05).softmax(1))


def test_the_last_incomplete_batch_is_trained_on_and_views_are_cropped_as_asked() -> None:
    assert passes_of(METHOD)[0].keep_last
    views = {name: view.settings_of(ViewSettings(), ()) for name, view in views_of(replace(METHOD, crop=0.2)).items()}
    assert [view.crop_scale for view in views.values()] == [(0.2, 1.0)] * 2
    assert [view.blur for view in views.values()] == [1.0, 0.1]


def test_a_norm_behind_the_projector_keeps_embeddings_apart() -> None:
    net = net_of(replace(METHOD, output_norm=True))
    x = net.project(net.backbone(torch.randn(64, DIM)))
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(5), rtol=1e-3, atol=1e-3)
    assert not any(p.requires_grad for p in net.project[-1].parameters())
