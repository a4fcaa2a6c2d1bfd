from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from coterie.catalogue import practical_settings
from coterie.contract import Facts, Pass, passes_of, predict, views_of
from coterie.methods.simclr import SimCLR
from coterie.networks.net import Net
from coterie.training.plan import RunSettings, make_plan
from coterie.views import ViewSettings
from helpers.two_views import SIZE, batch_at, blobs, net_of, touched

METHOD = SimCLR(batch_size=SIZE, projector_hidden=7, projector_out=5)


def slow_loss(net: Net, temperature: float) -> float:
    """Eq. 1, one view at a time: -log of its other view's share among all the others."""
    batch = batch_at()
    with torch.no_grad():
        views = torch.cat([net.project(net.backbone(view)) for view in (batch.one, batch.two)])
    total = 0.0
    for i, own in enumerate(views):
        said = [math.exp(float(own @ z / own.norm() / z.norm()) / temperature) for z in views]
        total -= math.log(said[(i + SIZE) % (2 * SIZE)] / (sum(said) - said[i]))
    return total / (2 * SIZE)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_the_formula(temperature: float) -> None:
    method = replace(METHOD, temperature=temperature)
    steps = method.step(net_of(method), batch_at())
    assert next(steps)["contrast"].item() == pytest.approx(slow_loss(net_of(method), temperature), rel=1e-4)
    assert next(steps, None) is None


def test_backbone_and_projector_are_trained_and_nothing_else() -> None:
    net = net_of(METHOD)
    for losses in METHOD.step(net, batch_at()):
        losses["contrast"].backward()
    assert touched(net) == {"backbone", "project"}
    for method in (METHOD, replace(METHOD, solver="sgd")):
        groups = method.optimiser(net).param_groups
        assert sum(len(group["params"]) for group in groups) == len(
            [*net.backbone.parameters(), *net.project.parameters()]
        )
        assert groups[0]["lr"] == pytest.approx(SIZE / 256)


def test_lars_leaves_biases_and_norms_without_decay_and_sgd_does_not() -> None:
    weights, vectors = METHOD.optimiser(net_of(METHOD)).param_groups
    assert (weights["weight_decay"], vectors["weight_decay"]) == (1e-4, 0)
    assert all(p.ndim > 1 for p in weights["params"])
    assert all(p.ndim == 1 for p in vectors["params"])
    (group,) = replace(METHOD, solver="sgd").optimiser(net_of(METHOD)).param_groups
    assert (group["weight_decay"], group["momentum"]) == (1e-4, 0.9)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    method = SimCLR()
    assert [method.rate(p) for p in (0.0, 0.005, 0.01)] == pytest.approx([0.0, 0.5, 1.0])
    assert method.rate(0.01 + 0.99 / 2) == pytest.approx(0.5)
    assert method.rate(1.0) == pytest.approx(0.0)


def test_the_health_number_sees_a_collapse() -> None:
    net, batch = net_of(METHOD), batch_at()
    for _ in METHOD.step(net, batch):
        pass
    assert 0.05 < float(batch.logged["embedding_std"]) < 1.2
    nn.init.zeros_(net.project[-1].weight)
    for _ in METHOD.step(net, batch):
        pass
    assert float(batch.logged["embedding_std"]) < 1e-3


def test_the_groups_are_k_means_on_standardised_features() -> None:
    net, features = net_of(METHOD), blobs()
    METHOD.finish(net, lambda: features, 3, torch.Generator().manual_seed(0))
    p = predict(METHOD, net, features)["kmeans"]
    torch.testing.assert_close(p.sum(1), torch.ones(60))
    found = p.argmax(1).view(20, 3)
    assert bool((found == found[0]).all())
    assert len(set(found[0].tolist())) == 3


# Views and presets


def test_the_views_are_distorted_as_strongly_as_the_settings_say() -> None:
    for method, jitter, blur in ((SimCLR(), (0.4, 0.4, 0.4, 0.1), 0.0), (SimCLR(jitter=1, blur=0.5), (0.8,) * 3, 0.5)):
        for view in views_of(method).values():
            own = view.settings_of(ViewSettings(), ())
            assert own.jitter[: len(jitter)] == pytest.approx(jitter)
            assert own.blur == blur
    assert views_of(SimCLR())["one"].settings_of(ViewSettings(blur=0.3), ("blur",)).blur == 0.3  # the user's


def test_unlabelled_images_beside_take_part() -> None:
    assert passes_of(SimCLR()) == (Pass(extra=True),)


def test_other_methods_can_start_from_it() -> None:
    facts = Facts(n=5000, k=10, kind="images", device="cuda", side=32)
    plan = make_plan(RunSettings(n_clusters=10, method="scan", pretrain="simclr"), facts, "photos")
    assert [type(stage).__name__ for stage in plan.stages] == ["SimCLR", "SCAN"]


@pytest.mark.parametrize(("side", "blur"), [(8, 0.0), (64, 0.0), (96, 0.5)])
def test_small_pictures_are_not_blurred(side: int, blur: float) -> None:
    facts = Facts(n=5000, k=10, kind="images", device="cpu", side=side)
    assert SimCLR(**practical_settings("simclr", facts)).blur == blur
