from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from coterie.catalogue import method_class
from coterie.contract import Pass, passes_of, predict
from coterie.methods.moco import MoCo
from coterie.networks.net import Net
from coterie.training.plan import RunSettings, image_size_of
from coterie.types import Batch
from helpers.two_views import SIZE, batch_at, net_of

METHOD = MoCo(batch_size=SIZE, queue=3 * SIZE, projector_hidden=7, projector_out=5)


# The loss


def slow_loss(net: Net, batch: Batch, temperature: float) -> tuple[float, list[Tensor]]:
    """The symmetric loss, one image at a time; and the keys."""
    unit = nn.functional.normalize
    with torch.no_grad():
        queries = [unit(net.project(net.backbone(view))) for view in (batch.one, batch.two)]
        keys = [unit(net.teacher.project(net.teacher.backbone(view))) for view in (batch.one, batch.two)]
    total = 0.0
    for own, other, queue in ((0, 1, net.second.rows), (1, 0, net.first.rows)):
        for q, key in zip(queries[own], keys[other], strict=True):
            positive = math.exp(float(q @ key) / temperature)
            negatives = sum(math.exp(float(q @ n) / temperature) for n in queue)
            total += -math.log(positive / (positive + negatives))
    return total / (2 * SIZE), keys


def test_the_loss_is_the_mean_of_both_directions_against_the_queues_before_the_push() -> None:
    net, twin, batch = net_of(METHOD), net_of(METHOD), batch_at()
    expected, keys = slow_loss(twin, batch, METHOD.temperature)
    queue = net.first.rows.clone()
    steps = METHOD.step(net, batch)
    losses = next(steps)
    assert losses["contrast"].item() == pytest.approx(expected, rel=1e-4)
    assert torch.equal(net.first.rows, queue)  # not before the optimiser's step
    assert next(steps, None) is None
    torch.testing.assert_close(net.first.rows[:SIZE], keys[0])
    torch.testing.assert_close(net.second.rows[:SIZE], keys[1])
    assert torch.equal(net.first.rows[SIZE:], queue[SIZE:])


def test_no_gradient_reaches_the_keys_or_the_queues() -> None:
    net, batch = net_of(METHOD), batch_at()
    for losses in METHOD.step(net, batch):
        losses["contrast"].backward()
    touched = {name for name, p in net.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    assert {name.split(".")[0] for name in touched} == {"backbone", "project"}
    optimised = {id(p) for group in METHOD.optimiser(net).param_groups for p in group["params"]}
    trained = {id(p) for part in (net.backbone, net.project) for p in part.parameters()}
    assert optimised == trained


def test_the_health_number_is_one_for_embeddings_that_fill_the_sphere_and_zero_for_one_point() -> None:
    net, batch = net_of(MoCo(batch_size=SIZE, queue=SIZE, projector_hidden=7, projector_out=5)), batch_at()
    for _ in METHOD.step(net, batch):
        pass
    with torch.no_grad():
        embedded = torch.nn.functional.normalize(net.project(net.backbone(batch.one)))
    expected = torch.stack([column.std() for column in embedded.T]).mean() * math.sqrt(5)
    torch.testing.assert_close(batch.logged["embedding_std"], expected)
    nn.init.zeros_(net.project[-1].weight)
    for _ in METHOD.step(net, batch):
        pass
    assert float(batch.logged["embedding_std"]) < 1e-3


# The key encoder follows


@pytest.mark.parametrize(("progress", "keep"), [(0.0, 0.99), (0.5, 0.9945), (1.0, 0.999)])
def test_the_key_encoder_follows_along_a_cosine_from_099_to_0999(progress: float, keep: float) -> None:
    net = net_of(METHOD)
    with torch.no_grad():
        for p in net.backbone.parameters():
            p.add_(1.0)
    before = [p.clone() for p in net.teacher.backbone.parameters()]
    for _ in METHOD.step(net, batch_at(progress)):
        assert all(map(torch.equal, before, net.teacher.backbone.parameters()))  # only after the optimiser's step
    for old, student, key in zip(before, net.backbone.parameters(), net.teacher.backbone.parameters(), strict=True):
        torch.testing.assert_close(key, keep * old + (1 - keep) * student)


def test_the_key_encoders_statistics_come_from_its_own_forward_passes() -> None:
    net = net_of(METHOD)
    for _ in METHOD.step(net, batch_at()):
        pass
    assert int(net.teacher.backbone.trunk.norm.num_batches_tracked) == 2
    assert float(net.teacher.backbone.trunk.norm.running_mean.abs().sum()) > 0


def test_the_key_encoder_begins_as_a_copy_that_is_its_own() -> None:
    net = net_of(METHOD)
    for key, student in zip(net.teacher.backbone.parameters(), net.backbone.parameters(), strict=True):
        assert torch.equal(key, student)
        assert key.data_ptr() != student.data_ptr()
        assert not key.requires_grad


# The schedule


def test_the_learning_rate_warms_up_to_its_height_and_falls_to_zero_along_a_cosine() -> None:
    method = MoCo()
    height = METHOD.optimiser(net_of(METHOD)).param_groups[0]["lr"]
    assert height == pytest.approx(0.5 * SIZE / 256)
    assert method.rate(0.0) * 0.5 == pytest.approx(3e-5)
    assert method.rate(0.025) == pytest.approx((1 + 3e-5 / 0.5) / 2)
    assert method.rate(0.05) == 1.0
    assert method.rate(0.05 + 0.95 / 2) == pytest.approx(0.5)
    assert method.rate(1.0) == pytest.approx(0.0)
    rates = [method.rate(step / 1000) for step in range(1001)]
    assert rates[:51] == sorted(rates[:51])
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_weight_decay_is_on_all_parameters() -> None:
    (group,) = METHOD.optimiser(net_of(METHOD)).param_groups
    assert (group["weight_decay"], group["momentum"]) == (1e-4, 0.9)


# Its own groups


def test_the_groups_are_k_means_on_standardised_features() -> None:
    net = net_of(METHOD)
    generator = torch.Generator().manual_seed(3)
    centres = 5 * torch.randn(3, 10, generator=generator)
    features = centres.repeat(20, 1) + torch.randn(60, 10, generator=generator)
    METHOD.finish(net, lambda: features, 3, generator)
    p = predict(METHOD, net, features)["kmeans"]
    torch.testing.assert_close(p.sum(1), torch.ones(60))
    found = p.argmax(1).view(20, 3)
    assert bool((found == found[0]).all())
    assert len(set(found[0].tolist())) == 3


def test_images_without_labels_that_a_source_has_beside_take_part() -> None:
    assert passes_of(MoCo()) == (Pass(extra=True),)


@pytest.mark.parametrize("name", ["moco", "simsiam", "byol"])
def test_the_published_rows_bring_images_to_the_size_of_cdcs_rows(name: str) -> None:
    rows = {row: settings.get("image_size") for row, settings in method_class("cdc").card.presets.items()}
    for row, size in rows.items():
        plan = RunSettings(10, name, preset=f"paper:{row}")
        assert image_size_of(plan, "photos") == size
        assert image_size_of(replace(plan, preset="paper"), row) == size  # of the named set itself
