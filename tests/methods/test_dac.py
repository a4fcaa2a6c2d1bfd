"""DAC: which pairs are looked at, its losses beside a slow twin, thresholds, steps, settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from coterie.contract import Facts
from coterie.methods.dac import DAC, relation
from coterie.networks.net import Net
from coterie.objectives.pairs import cosines, exchanged
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, ItemSpec
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.small_nets import untrained_net

SIZE, PART, K, SIDE = 12, 4, 3, 8
SPEC = ItemSpec("images", channels=1, height=SIDE, width=SIDE)
FACTS = Facts(n=1000, k=K, kind="images", device="cpu", side=SIDE)
METHOD = DAC(batch_size=SIZE, part=PART, repeats=2)


def net_of(method: DAC) -> Net:
    return untrained_net(method, "small-4", SPEC, K)


def a_batch(method: DAC, number: int = 0, per_epoch: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(SIZE, 1, SIDE, SIDE, generator=generator) for name in method.views()}
    return batch_of_views(views, part_size=PART, generator=generator, number=number, per_epoch=per_epoch)


def answers(seed: int, n: int = 6) -> torch.Tensor:
    return (3 * torch.randn(n, K, generator=torch.Generator().manual_seed(seed))).softmax(1)


# Losses


def slow_losses(method: DAC, p: Any, said: Any, upper: float, lower: float) -> tuple[float, float]:
    """A pair at a time, and the consistency an answer at a time, from plain numbers."""

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    def entropy(q: float, target: float) -> float:
        q = min(max(q, 1e-7), 1 - 1e-7)  # Keras' epsilon, which is a part of the definition
        return -target * math.log(q) - (1 - target) * math.log(1 - q)

    pairs, known = [], p if method.targets == "own" else said
    for i in range(len(p)):
        for j in range(len(p)):
            s, about = cosine(p[i], p[j]), cosine(known[i], known[j])
            if i != j and (about > upper or about <= lower):
                target = float(about > upper)
                pairs.append((s - target) ** 2 if method.pair_loss == "square" else entropy(s, target))
    same = [
        entropy(q, t / math.hypot(*row))
        for own, row in zip(p, said, strict=True)
        for q, t in zip(own, row, strict=True)
    ]
    return (sum(pairs) / len(pairs) if pairs else 0.0), method.consistency * sum(same) / len(same)


@given(st.integers(0, 1000), st.sampled_from([(0.99, 0.99), (0.95, 0.5), (0.7, 0.2)]), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=25)
def test_the_losses_are_their_definitions(seed: int, bounds: tuple[float, float], own: bool, square: bool) -> None:
    method = DAC(targets="own" if own else "batch", pair_loss="square" if square else "entropy")
    p, said = answers(seed), answers(seed + 1)
    losses = method.losses(p.double(), said.double(), *bounds)  # in float32 the logarithm of 1 - s is rough near s = 1
    pairs, consistency = slow_losses(method, p.double().tolist(), said.double().tolist(), *bounds)
    assert losses["pairs"].item() == pytest.approx(pairs, rel=1e-3, abs=1e-4)
    assert losses["consistency"].item() == pytest.approx(consistency, rel=1e-3, abs=1e-4)


def test_the_paper_has_no_consistency() -> None:
    assert set(DAC(consistency=0.0).losses(answers(0), answers(1), 0.9, 0.5)) == {"pairs"}


def test_pairs_between_the_thresholds_are_left_out_and_no_item_is_its_own_pair() -> None:
    similarity = torch.tensor([[1.0, 0.96, 0.6], [0.96, 1.0, 0.4], [0.6, 0.4, 1.0]])
    linked, chosen = relation(similarity, 0.95, 0.455)
    assert linked.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert chosen.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    _, every = relation(similarity, 0.7, 0.7)
    assert int(every.sum()) == 6


def test_where_nothing_is_chosen_the_loss_is_zero_with_a_gradient() -> None:
    z = torch.zeros(4, K, requires_grad=True)
    losses = DAC(targets="own", consistency=0.0, upper=(1.0, 1.0), lower=(0.0, 0.0)).losses(
        z.softmax(1), answers(0, 4), 1.0, 0.0
    )
    assert losses["pairs"].item() == 0
    losses["pairs"].backward()
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())


# Thresholds and steps


def test_thresholds_close_in_along_straight_lines_by_epoch() -> None:
    method = DAC(epochs=50, upper=(0.99, 0.895), lower=(0.8, 0.895))
    assert method.thresholds(a_batch(METHOD, 0, 7)) == (0.99, 0.8)
    assert method.thresholds(a_batch(METHOD, 6, 7)) == (0.99, 0.8)
    assert method.thresholds(a_batch(METHOD, 7, 7)) == pytest.approx((0.99 - 0.095 / 50, 0.8 + 0.095 / 50))
    upper, lower = method.thresholds(a_batch(METHOD, 49 * 7, 7))
    assert lower < upper
    text = make_plan(RunSettings(n_clusters=K, method="dac", preset="text"), FACTS, "photos").method
    assert isinstance(text, DAC)
    # The paper: u = .95 - λ, l = .455 + .1 λ, λ grows by 1.1 · .009 a pass.
    for epoch in range(45):
        shift = 1.1 * 0.009 * epoch
        expected = (0.95 - shift, 0.455 + 0.1 * shift)
        assert text.thresholds(a_batch(METHOD, epoch)) == pytest.approx(expected, abs=0.006)


def test_targets_stand_while_every_copy_of_every_image_is_trained_on() -> None:
    net, twin, batch = net_of(METHOD), net_of(METHOD), a_batch(METHOD)
    seen = [batch.views[name].requires_grad_() for name in ("moved1", "moved2")]
    count = 0
    for losses in METHOD.step(net, batch):
        sum(losses.values()).backward()  # type: ignore[union-attr]
        count += 1
    assert count == 2 * SIZE // PART
    for view in seen:
        assert view.grad is not None
        assert bool((view.grad.abs().amax((1, 2, 3)) > 0).all())
    said = twin.cluster(twin.backbone(batch.clean)).softmax(1).detach()
    linked = (cosines(said) > 0.99).float()
    expected = (linked.sum() - linked.diagonal().sum()) / (SIZE * (SIZE - 1))
    torch.testing.assert_close(batch.logged["linked"], expected)
    assert batch.logged["selected"].item() == 1
    assert batch.counts is not None
    assert int(batch.counts.sum()) == SIZE


def test_a_distorted_image_is_compared_with_the_plain_one_that_it_comes_from() -> None:
    method = DAC(batch_size=SIZE, part=PART, repeats=2, consistency=3.0)
    twin, batch = net_of(method), a_batch(method)
    said = twin.cluster(twin.backbone(batch.clean)).softmax(1).detach()
    rows = next(exchanged(batch))
    assert rows.tolist() != list(range(PART))
    p = twin.cluster(twin.backbone(batch.moved1[rows])).softmax(1)
    losses = next(method.step(net_of(method), a_batch(method)))
    torch.testing.assert_close(dict(losses), dict(method.losses(p, said[rows], 0.99, 0.99)))


def test_the_heads_last_layers_begin_as_the_identity() -> None:
    cluster = net_of(METHOD).cluster
    x = torch.rand(20, K)
    torch.testing.assert_close(cluster[3](x), x)
    torch.testing.assert_close(cluster[6](x), x)
    assert F.relu(cluster[0](torch.randn(20, 32))).abs().sum() > 0


# Settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"part": 40, "batch_size": 20}, r"dac\.part is 40: a batch has only 20"),
        ({"lower": (0.99, 0.9), "upper": (0.99, 0.8)}, "the last of lower must not be above the last of upper"),
        ({"lower": (0.995, 0.7)}, "the first of lower must not be above"),
        ({"upper": (1.2, 0.8)}, r"dac\.upper"),
        ({"targets": "labels"}, r"dac\.targets is 'labels'"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    refused_in_plan("dac", given, FACTS, message)


def test_auto_is_the_papers_net_where_images_are_large_enough() -> None:
    choose = DAC.card.backbone
    assert choose is not None
    side = {s: ItemSpec("images", 3, s, s) for s in (8, 32, 96)}
    assert [choose(side[s], "cuda", False) for s in (8, 32, 96)] == ["small-16", "dac", "dac-large"]
    assert [choose(side[s], "cpu", False) for s in (8, 32, 96)] == ["small-16", "small-16", "small-32"]
    assert choose(side[32], "cpu", True) == "dac"
