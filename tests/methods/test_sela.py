"""SeLa: how labels begin and are made anew, its loss beside a slow twin, rates, settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from coterie.catalogue import practical_settings
from coterie.contract import Facts
from coterie.methods.sela import SeLa, heads_of
from coterie.networks.net import Net
from coterie.types import Batch, EpochStart
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.two_views import DIM, SIZE, blobs, net_of, touched

METHOD = SeLa(batch_size=SIZE, others=2, over=5)
FACTS = Facts(n=1000, k=3, kind="embeddings", device="cpu", dim=DIM)


def gives(features: Tensor) -> Callable[..., Tensor]:
    return lambda *, half=False, by=None, most=None: features


def begun(method: SeLa, features: Tensor) -> Net:
    net = net_of(method)
    method.start(net, gives(features), 3, torch.Generator().manual_seed(2))
    return net


def epoch_of(number: int, features: Tensor) -> EpochStart:
    return EpochStart(number, gives(features), torch.Generator().manual_seed(number))


def a_batch(index: Tensor) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {"distorted": torch.randn(len(index), DIM, generator=generator)}
    return batch_of_views(views, index=index, generator=generator)


def test_labels_begin_at_random_and_balanced_in_every_head() -> None:
    labels = begun(METHOD, blobs()).labels.rows
    assert labels.shape == (60, 3)
    for column, groups in zip(labels.T.long(), (3, 5, 5), strict=True):
        assert column.bincount(minlength=groups).tolist() == [60 // groups] * groups
    assert not torch.equal(labels[:, 1], labels[:, 2])


def test_heads_are_relabelled_in_turn_and_others_keep_their_labels() -> None:
    features = blobs()
    net = begun(METHOD, features)
    for number in range(4):
        before = net.labels.rows.clone()
        epoch = epoch_of(number, features)
        METHOD.begin_epoch(net, epoch)
        moved = [bool((net.labels.rows[:, i] != before[:, i]).any()) for i in range(3)]
        assert moved == [number == 0, number == 1, number == 2]  # the fourth finds what the first one made
        share = (net.labels.rows[:, number % 3] != before[:, number % 3]).float().mean()
        torch.testing.assert_close(epoch.logged["changed"], share)
        assert net.training
        assert net.cluster.training


def test_labels_are_of_equal_size_where_groups_are_and_those_of_asked_for_shares() -> None:
    """Answers that are sure of blobs: the plan is the blobs themselves, whatever the sizes asked for allow."""
    features = blobs()
    net = begun(METHOD, features)
    centres = torch.stack([features[i::3].mean(0) for i in range(3)])
    with torch.no_grad():
        net.cluster.weight.copy_(0.1 * centres)
        net.cluster.bias.copy_(-0.05 * centres.square().sum(1))
    METHOD.begin_epoch(net, epoch_of(0, features))
    assert torch.equal(net.labels.rows[:, 0], (torch.arange(60) % 3).int())
    with torch.no_grad():
        net.cluster.weight.zero_()
        net.cluster.bias.copy_(torch.arange(3.0))
    uneven = SeLa(batch_size=SIZE, others=2, over=5, shares=(0.9, 0.05, 0.05))
    net.labels.fill(net.labels.rows * 0 + 1)
    uneven.begin_epoch(net, epoch_of(0, features))
    assert bool((net.labels.rows[:, 0] == 0).all())  # of equal answers the largest share takes all
    assert bool((net.labels.rows[:, 1:] == 1).all())


def test_all_heads_at_once_where_asked() -> None:
    features = blobs()
    method = SeLa(batch_size=SIZE, others=2, over=5, relabelled=7)
    net = begun(method, features)
    before = net.labels.rows.clone()
    method.begin_epoch(net, epoch_of(0, features))
    assert bool((net.labels.rows != before).any(0).all())


def test_the_loss_is_the_mean_cross_entropy_of_all_heads() -> None:
    index = torch.tensor([5, 3, 40, 41, 0, 59, 7, 8])
    net, twin, batch = begun(METHOD, blobs()), begun(METHOD, blobs()), a_batch(index)
    (losses,) = list(METHOD.step(net, batch))
    total = 0.0
    with torch.no_grad():
        features = twin.backbone(batch.distorted)
        for number, head in enumerate(heads_of(twin)):
            for row, item in enumerate(index.tolist()):
                z = head(features)[row].tolist()
                own = z[int(twin.labels.rows[item, number])]
                total += math.log(sum(math.exp(v - own) for v in z))
    assert losses["labels"].item() == pytest.approx(total / (3 * len(index)), rel=1e-4)
    losses["labels"].backward()
    assert touched(net) == {"backbone", "cluster", "others"}


def test_the_rate_falls_to_a_tenth_at_epochs_240_and_320_of_400() -> None:
    rates = [METHOD.rate(epoch / 400) for epoch in (0, 239, 240, 319, 320, 399)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shares": (0.5, 0.5)}, r"sela\.shares names 2 groups, but 3 are asked for"),
        ({"shares": (0.5, 0.5, 0.0)}, r"sela\.shares"),
        ({"over": 1}, r"sela\.over is 1"),
        ({"over": 1001}, r"sela\.over is 1001, but there are only 1000 items"),
        ({"sharpness": 0.0}, r"sela\.sharpness is 0\.0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_training(given: dict[str, Any], message: str) -> None:
    refused_in_plan("sela", given, FACTS, message)


def test_the_practical_preset_relabels_all_heads_before_each_epoch() -> None:
    chosen = practical_settings("sela", FACTS)
    assert chosen["relabelled"] == 1 + chosen["others"]
