"""DCCM: its three losses beside slow twins and the authors' numbers, partners, sub-batches, settings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from coterie.contract import Facts
from coterie.methods.dccm import DCCM, Judge, graph_loss, label_loss, map_loss
from coterie.networks.early import early_maps
from coterie.networks.net import Net
from coterie.objectives.pairs import cosines, exchanged
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import Batch, InputError, ItemSpec
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.small_nets import untrained_net
from helpers.two_views import waves

SIZE, PART, K, SIDE = 12, 4, 3, 8
SPEC = ItemSpec("images", channels=1, height=SIDE, width=SIDE)
FACTS = Facts(n=1000, k=K, kind="images", device="cpu", side=SIDE)
METHOD = DCCM(batch_size=SIZE, part=PART, repeats=2, hidden=6, judge=5)


def net_of(method: DCCM) -> Net:
    return untrained_net(method, "small-4", SPEC, K)


def a_batch(method: DCCM) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(SIZE, 1, SIDE, SIDE, generator=generator) for name in method.views()}
    return batch_of_views(views, part_size=PART, generator=generator)


# The losses


@pytest.mark.parametrize(
    ("scale", "graph", "gradient", "label"),
    [
        (3.0, 0.8093106746673584, [0.09400492161512375, -0.09996050596237183, 0.004015213809907436], 0.0),
        (
            8.0,
            1.2912050485610962,
            [0.08056553453207016, -0.08058054745197296, 1.3553162716561928e-05],
            1.5383071899414062,
        ),
    ],
)
def test_graph_and_label_losses_are_those_of_the_authors_code(
    scale: float, graph: float, gradient: list[float], label: float
) -> None:
    """`comp_simi`, `nn.BCELoss` and `WeightedBCE` as `main.py` calls them, of Cory-M/DCCM at 69ed7ae (23 March 2020),
    computed on 26 November 2026 on a CPU in float32 (torch 2.14.1)."""
    said, z = (scale * waves(8, 4, start=0)).softmax(1), (scale * waves(8, 4, start=2)).requires_grad_()
    found = graph_loss(z.softmax(1), cosines(said) >= 0.95)
    assert found.item() == pytest.approx(graph, abs=1e-4)
    (slope,) = torch.autograd.grad(found, z)
    torch.testing.assert_close(slope[0, :3], torch.tensor(gradient), atol=1e-5, rtol=1e-3)
    assert label_loss(z.softmax(1), said, 0.9).item() == pytest.approx(label, abs=1e-4)


def judge_of_waves() -> Judge:
    judge = Judge(3, 4, 5)
    for i, p in enumerate(judge.parameters()):
        p.data = waves(*p.shape, start=i)
    return judge


def test_the_map_loss_is_that_of_the_authors_code() -> None:
    """`DIM_Loss` of the same code, with partners one row before and strangers two and three rows before."""
    answers, maps, n = waves(6, 4, start=0), waves(6, 3, 2, 3, start=1), 6
    i = torch.arange(n)
    linked, chance = torch.ones(n, n, dtype=torch.bool), torch.full((n, n), 0.5)
    linked[i, i - 2] = linked[i, i - 3] = False
    chance[i, i - 1] = 0.9
    found = map_loss(judge_of_waves(), answers, maps, linked, chance)
    assert found.item() == pytest.approx(1.6729109287261963, abs=1e-5)


def slow_map_loss(judge: Judge, answers: Tensor, maps: Tensor, linked: Tensor, chance: Tensor) -> float:
    """An image at a time."""
    positive, negative = [], []
    for i in range(len(answers)):
        partners = [j for j in range(len(answers)) if linked[i, j] and j != i]
        strangers = sorted((j for j in range(len(answers)) if not linked[i, j]), key=lambda j: -float(chance[i, j]))
        chosen = [i, *([max(partners, key=lambda j: float(chance[i, j]))] if partners else [])]
        positive += [F.softplus(-judge(answers[i : i + 1], maps[j : j + 1])).mean().item() for j in chosen]
        negative += [F.softplus(judge(answers[i : i + 1], maps[j : j + 1])).mean().item() for j in strangers[:2]]
    return float(np.mean(positive) + (np.mean(negative) if negative else 0.0))


@pytest.mark.parametrize("groups", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]])
def test_partners_and_strangers_come_from_the_graph_and_may_be_lacking(groups: list[int]) -> None:
    answers, maps = waves(6, 4, start=0), waves(6, 3, 2, 3, start=1)
    label = torch.tensor(groups)
    linked = label[:, None] == label
    chance = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    found = map_loss(judge_of_waves(), answers, maps, linked, chance)
    assert found.item() == pytest.approx(slow_map_loss(judge_of_waves(), answers, maps, linked, chance), abs=1e-5)


def test_an_unsure_label_is_not_taught_and_counts_in_the_mean() -> None:
    p = torch.tensor([[0.7, 0.3], [0.5, 0.5]])
    said = torch.tensor([[0.95, 0.05], [0.6, 0.4]])
    assert label_loss(p, said, 0.9).item() == pytest.approx(-math.log(0.7) / 2, abs=1e-6)
    assert label_loss(p, said, 0.96).item() == 0


def test_answers_that_agree_with_the_graph_have_no_loss() -> None:
    p = torch.eye(3).repeat(2, 1)
    assert graph_loss(p, cosines(p) >= 0.95).item() < 1e-5
    assert graph_loss(p, torch.ones(6, 6, dtype=torch.bool)).item() > 5


# Steps


def test_graph_and_labels_stand_while_every_copy_of_every_image_is_trained_on() -> None:
    method, net, twin, batch = METHOD, net_of(METHOD), net_of(METHOD), a_batch(METHOD)
    steps = list(method.step(net, batch))
    assert len(steps) == 2 * SIZE // PART
    assert all(set(losses) == {"graph", "label", "map"} for losses in steps)
    said = twin.cluster(twin.backbone(batch.clean)).softmax(1).detach()
    linked = (cosines(said) >= 0.95).float()
    expected = (linked.sum() - SIZE) / (SIZE * (SIZE - 1))
    torch.testing.assert_close(batch.logged["linked"], expected)
    torch.testing.assert_close(batch.logged["confidence"], said.amax(1).mean())
    assert batch.counts is not None
    assert int(batch.counts.sum()) == SIZE
    seen = [batch.views[name].requires_grad_() for name in ("moved1", "moved2")]
    for losses in method.step(net_of(METHOD), batch):
        sum(losses.values()).backward()  # type: ignore[union-attr]
    for view in seen:
        assert view.grad is not None
        assert bool((view.grad.abs().amax((1, 2, 3)) > 0).all())


def test_a_step_has_the_graph_and_labels_of_the_plain_images_and_the_maps_of_the_distorted_ones() -> None:
    method = replace(METHOD, linked_above=0.8, sure_above=0.4, label_weight=3.0, map_weight=0.5)
    twin, batch = net_of(method), a_batch(method)
    said = twin.cluster(twin.backbone(batch.clean)).softmax(1).detach()
    rows = next(exchanged(batch))
    said, linked = said[rows], cosines(said[rows]) >= 0.8
    with early_maps(twin) as kept:
        features = twin.backbone(batch.moved1[rows])
    before_last = twin.cluster[:-1](features)  # answers before the last normalisation
    p = twin.cluster[-1](before_last).softmax(1)
    chance = torch.rand(PART, PART, generator=batch.generator)
    expected = {
        "graph": graph_loss(p, linked),
        "label": 3 * label_loss(p, said, 0.4),
        "map": 0.5 * map_loss(twin.judge, before_last, kept[0], linked, chance),
    }
    assert bool((said.amax(1) >= 0.4).any())
    losses = next(method.step(net_of(method), a_batch(method)))
    torch.testing.assert_close(dict(losses), expected)


def test_the_head_begins_as_the_first_features_normalised() -> None:
    net = net_of(METHOD)
    features = torch.randn(20, net.width).relu()
    expected = F.batch_norm(
        F.batch_norm(features[:, :6], None, None, training=True).relu()[:, :K], None, None, training=True
    )
    torch.testing.assert_close(net.cluster(features), expected, atol=1e-3, rtol=1e-3)


# Settings and a run


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"part": 40, "batch_size": 20}, r"dccm\.part is 40: a batch has only 20"),
        ({"repeats": 0}, r"dccm\.repeats is 0"),
        ({"linked_above": 1.5}, r"dccm\.linked_above is 1\.5"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    refused_in_plan("dccm", given, FACTS, message)


def test_a_backbone_without_known_early_maps_is_refused_before_any_training(digits: Any) -> None:
    settings = RunSettings(n_clusters=K, method="dccm", backbone="dcgan-32", device="cpu", calibrate=False)
    with pytest.raises(InputError, match="early maps"):
        run(digits.items.array, settings)


def test_where_no_label_is_sure_the_pairs_teach(digits: Any) -> None:
    sizes = {"epochs": 1, "batch_size": 24, "part": 8, "repeats": 1, "judge": 5, "sure_above": 1.0}
    settings = RunSettings(n_clusters=K, method="dccm", backbone="small-4", device="cpu", calibrate=False,
                           overrides={f"dccm.{name}": value for name, value in sizes.items()})  # fmt: skip
    (epoch,) = run(digits.items.array, settings).history.records
    assert epoch.health["sure"] == epoch.losses["label"] == 0
    assert epoch.losses["graph"] > 0


def test_auto_is_the_papers_net_where_images_are_large_enough() -> None:
    choose = DCCM.card.backbone
    assert choose is not None
    side = {s: ItemSpec("images", 3, s, s) for s in (8, 32, 96)}
    assert [choose(side[s], "cuda", False) for s in (8, 32, 96)] == ["small-16", "dccm", "dccm"]
    assert [choose(side[s], "cpu", False) for s in (8, 32, 96)] == ["small-16", "small-16", "small-32"]
    assert choose(side[32], "cpu", True) == "dccm"
