"""IIC: its loss beside a slow twin and the authors' numbers, its heads and passes, and which sub-head answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.contract import Facts, passes_of, views_of
from coterie.methods.iic import IIC, SubHeads, dependence, joint
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, EpochStart, ItemSpec
from coterie.views import Draw, ViewSettings, make_views
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.small_nets import untrained_net
from helpers.two_views import waves

SIZE, K, SIDE = 12, 3, 8
SPEC = ItemSpec("images", channels=1, height=SIDE, width=SIDE)
FACTS = Facts(n=1000, k=K, kind="images", device="cpu", side=SIDE)
METHOD = IIC(batch_size=SIZE, over=6, copies=2, sub_heads=2, entropy_weight=1.5)


def loss(x: Tensor, y: Tensor, weight: float = 1.0) -> Tensor:
    """Of two views' logits."""
    return dependence(joint(x.softmax(1), y.softmax(1)), weight)


def net_of(method: IIC) -> Net:
    return untrained_net(method, "small-4", SPEC, K)


def a_batch(method: IIC, turn: str = "primary1") -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(SIZE, 1, SIDE, SIDE, generator=generator) for name in method.views()}
    return batch_of_views(views, generator=generator, pass_name=turn)


# The loss


@pytest.mark.parametrize(
    ("scale", "n", "k", "weight", "expected", "gradient"),
    [
        (2.0, 12, 5, 1.0, -0.044755108654499054, [-0.0005950179183855653, -0.0028395862318575382]),
        (2.0, 12, 5, 1.5, -1.6319611072540283, [0.00019940912898164243, -0.002378824632614851]),
        (40.0, 12, 5, 1.0, -0.684619665145874, [0.0, 1.1222787179576699e-06, -0.0025033277925103903]),
        (0.1, 6, 3, 1.5, -1.0986123085021973, [3.4788699849741533e-06, -1.8507718777982518e-05]),
    ],
)
def test_the_loss_and_its_gradient_are_those_of_the_authors_code(
    scale: float, n: int, k: int, weight: float, expected: float, gradient: list[float]
) -> None:
    """`IID_loss` of xu-ji/IIC at b7602b7 (4 September 2020), computed on 26 November 2026 in float32 (torch 2.14.1),
    with the marginals that it writes into cloned, as torch asks today."""
    x = (scale * waves(n, k, start=0)).requires_grad_()
    found = loss(x, scale * waves(n, k, start=1), weight)
    assert found.item() == pytest.approx(expected, abs=1e-5)
    (slope,) = torch.autograd.grad(found, x)
    torch.testing.assert_close(slope[0, : len(gradient)], torch.tensor(gradient), atol=1e-6, rtol=1e-3)


def slow(x: list[list[float]], y: list[list[float]], weight: float) -> float:
    """An item at a time, from the definition."""
    n, k = len(x), len(x[0])
    p = [[sum(x[i][a] * y[i][b] + x[i][b] * y[i][a] for i in range(n)) / (2 * n) for b in range(k)] for a in range(k)]
    share = [sum(row) for row in p]
    return -sum(
        p[a][b] * (math.log(p[a][b]) - weight * math.log(share[a]) - weight * math.log(share[b]))
        for a in range(k)
        for b in range(k)
    )


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.5, 2.0))
@settings(deadline=None, max_examples=25)
def test_the_loss_is_its_definition_and_neither_views_nor_groups_have_an_order(
    seed: int, k: int, weight: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 7, k, generator=generator)
    found = loss(x, y, weight).item()
    assert found == pytest.approx(slow(x.softmax(1).tolist(), y.softmax(1).tolist(), weight), abs=1e-4)
    assert loss(y, x, weight).item() == pytest.approx(found, abs=1e-5)
    order = torch.randperm(k, generator=generator)
    assert loss(x[:, order], y[:, order], weight).item() == pytest.approx(found, abs=1e-5)
    assert loss(x, y).item() <= 1e-6  # minus a mutual information


@pytest.mark.parametrize("k", [2, 3, 10])
def test_sure_equal_and_agreed_groups_have_the_lowest_loss_and_answers_without_knowledge_none(k: int) -> None:
    one_hot = torch.eye(k).repeat(4, 1)
    assert dependence(joint(one_hot, one_hot), 1.0).item() == pytest.approx(-math.log(k), abs=1e-5)
    flat = torch.full((8, k), 1 / k)
    assert dependence(joint(flat, flat), 1.0).item() == pytest.approx(0, abs=1e-6)
    single = torch.zeros(8, k)
    single[:, 0] = 1
    single.requires_grad_()
    collapsed = dependence(joint(single, single), 1.0)
    assert collapsed.item() == pytest.approx(0, abs=1e-6)
    (slope,) = torch.autograd.grad(collapsed, single)
    assert bool(torch.isfinite(slope).all())


# One step


@pytest.mark.parametrize("turn", ["primary1", "over1"])
def test_an_image_counts_with_each_of_its_copies_and_sub_heads_are_averaged(turn: str) -> None:
    twin = net_of(METHOD)
    batch = a_batch(METHOD, turn)
    head = twin.get_submodule(turn[:-1])
    x = head(twin.backbone(batch.plain))
    first, second = head(twin.backbone(torch.cat([batch.copy1, batch.copy2]))).chunk(2)
    each = [loss(torch.cat([x[:, i], x[:, i]]), torch.cat([first[:, i], second[:, i]]), 1.5) for i in range(2)]
    net = net_of(METHOD)
    (losses,) = list(METHOD.step(net, batch))
    (name,) = losses
    assert name == ("information" if turn == "primary1" else "over_information")
    torch.testing.assert_close(losses[name], torch.stack(each).mean())
    torch.testing.assert_close(net.get_submodule(turn[:-1]).losses, torch.stack(each).detach())
    assert (batch.counts is None) == (turn == "over1")
    losses[name].backward()
    idle = net.over if turn == "primary1" else net.primary
    assert all(p.grad is None for p in idle.parameters())
    assert all(p.grad is not None for p in net.backbone.parameters())


def test_the_sub_head_of_lowest_loss_in_the_last_round_answers() -> None:
    net = net_of(METHOD)
    features = torch.randn(5, net.width)
    net.eval()
    for best in (0, 1):
        net.primary.losses.copy_(torch.tensor([0.0, 0.0])).index_fill_(0, torch.tensor([best]), -1.0)
        torch.testing.assert_close(METHOD.logits(net, features)["primary"], net.primary.heads[best](features))
    METHOD.begin_epoch(net, EpochStart(3, lambda: torch.empty(0), torch.Generator()))
    assert not net.primary.losses.any()


def test_sub_heads_begin_small_and_differ() -> None:
    torch.manual_seed(0)
    heads = SubHeads(400, 10, 3)
    weights = torch.stack([head.get_parameter("weight") for head in heads.heads]).detach()
    assert float(weights.std()) == pytest.approx(0.01, rel=0.05)
    assert not torch.equal(weights[0], weights[1])
    assert heads(torch.zeros(4, 400)).abs().max() == 0


# Passes, views, settings


def test_a_round_is_the_passes_of_both_heads() -> None:
    names = [(one.name, one.extra) for one in passes_of(IIC())]
    assert names == [("over1", True), ("primary1", False), ("primary2", False)]
    assert [one.name for one in passes_of(IIC(over_first=False, primary_passes=1))] == ["primary1", "over1"]
    assert [one.name for one in passes_of(IIC(over_clustering=False, primary_passes=1))] == ["primary1"]
    assert list(IIC(over_clustering=False).heads(net_of(METHOD), K)) == ["primary"]


def test_copies_are_crops_of_the_plain_views_size_mirrored_and_jittered() -> None:
    """Without jitter and with one crop place only (enlarged by 1), a copy is the image or its mirror image."""
    raw = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    still = ViewSettings(enlarge=1.0, perturbed_jitter=(0.0, 0.0, 0.0, 0.0))
    views, draw = list(views_of(METHOD).values()), Draw(torch.Generator().manual_seed(1), 40)
    given = ("perturbed_jitter",)
    plain, copy, _ = make_views(raw, views, draw, still, "photo", torch.zeros(3), torch.ones(3), given)
    torch.testing.assert_close(plain, raw / 255)
    as_it_is = (copy - plain).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (copy - plain.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert bool((as_it_is ^ mirrored).all())
    assert 5 < int(mirrored.sum()) < 35
    jittered = make_views(raw, views, draw, ViewSettings(enlarge=1.0), "photo", torch.zeros(3), torch.ones(3))
    assert bool(((jittered[1] - jittered[2]).abs().amax((1, 2, 3)) > 1e-3).all())


@pytest.mark.parametrize(
    ("row", "expected", "enlarge"),
    [
        ("cifar10", IIC(), 1.6),
        ("cifar20", IIC(batch_size=200, copies=5, over=140, primary_passes=1, over_first=False), 1.6),
        ("stl10", IIC(batch_size=140, copies=5, primary_passes=1), 1.5),
    ],
)
def test_the_published_rows(row: str, expected: IIC, enlarge: float) -> None:
    plan = make_plan(RunSettings(n_clusters=10, method="iic", preset=f"paper:{row}"), FACTS, "photos")
    assert plan.stages == [expected]
    assert plan.views.enlarge == pytest.approx(enlarge)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"over": 1}, r"iic\.over is 1"),
        ({"batch_size": 2}, r"iic\.batch_size is 2: with 3 groups"),
        ({"sub_heads": 0}, r"iic\.sub_heads is 0"),
        ({"copies": 0}, r"iic\.copies is 0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    refused_in_plan("iic", given, FACTS, message)


@pytest.mark.parametrize("changed", [{"over_first": False}, {"over_clustering": False, "copies": 2}])
def test_every_variant_runs(changed: dict[str, Any], digits: Any) -> None:
    small = {"epochs": 1, "batch_size": 32, "over": 6, "copies": 1, "sub_heads": 2, "learning_rate": 3e-3}
    overrides = {f"iic.{name}": value for name, value in {**small, **changed}.items()}
    settings = RunSettings(
        n_clusters=K, method="iic", backbone="sobel+small-4", device="cpu", calibrate=False, overrides=overrides
    )
    done = run(digits.items.array, settings)
    last = done.history.records[-1]
    assert np.isfinite([*last.losses.values(), *last.health.values()]).all()
    assert (set(last.losses) == {"information"}) == ("over_clustering" in changed)
