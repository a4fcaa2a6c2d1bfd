from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coterie.contract import rates_of
from coterie.methods.simsiam import SimSiam
from coterie.networks.net import Net
from helpers.two_views import SIZE, WIDTH, Fixed, batch_at, net_of, touched, waves

METHOD = SimSiam(batch_size=SIZE, projector_hidden=7, projector_out=5, predictor_hidden=4)


# The loss


def slow_loss(net: Net) -> float:
    """The mean of both directions, an item at a time."""
    batch, total = batch_at(), 0.0
    with torch.no_grad():
        projected = [net.project(net.backbone(view)) for view in (batch.one, batch.two)]
        said = [net.predict(z) for z in projected]
    for own, other in ((0, 1), (1, 0)):
        for p, z in zip(said[own], projected[other], strict=True):
            total -= float(p @ z / (p.norm() * z.norm())) / (2 * SIZE)
    return total


def test_the_loss_is_the_mean_of_both_directions() -> None:
    expected = slow_loss(net_of(METHOD))
    steps = METHOD.step(net_of(METHOD), batch_at())
    assert next(steps)["similarity"].item() == pytest.approx(expected, rel=1e-4)
    assert next(steps, None) is None


def loss_of(p: Tensor, q: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """The loss for predictions p, q and projections y, z of the two views."""
    net = net_of(METHOD)
    net.predict, net.project = Fixed(p, q), Fixed(y, z)
    return next(iter(METHOD.step(net, batch_at())))["similarity"]


def test_the_loss_and_its_gradient_are_those_of_the_code_that_cdc_was_compared_with() -> None:
    """`simsiam_loss_func`, in both directions as `SimSiam.training_step` adds them, of ChengJianH/CDC at 75ac44b."""
    said = [waves(6, 5, start=start).requires_grad_() for start in (0, 1)]
    loss = loss_of(*said, waves(6, 5, start=2), waves(6, 5, start=3))
    (gradient,) = torch.autograd.grad(loss, said[0])
    assert loss.item() == pytest.approx(0.2216196358203888, abs=1e-6)
    expected = [-0.005200652405619621, -0.004113880917429924, -0.001092284917831421]
    torch.testing.assert_close(gradient[0, :3], torch.tensor(expected), atol=1e-6, rtol=0)


@given(st.integers(0, 10_000), st.floats(0.01, 100))
@settings(deadline=None, max_examples=20)
def test_the_loss_lies_between_minus_one_and_one_and_lengths_do_not_matter(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p, q, y, z = torch.randn(4, SIZE, 5, generator=generator)
    loss = loss_of(p, q, y, z).item()
    assert -1 <= loss <= 1
    assert loss_of(scale * p, q, y / scale, z).item() == pytest.approx(loss, abs=1e-5)
    assert loss_of(p, q, scale * q, p).item() == pytest.approx(-1, abs=1e-5)
    assert loss_of(p, q, -q, -p).item() == pytest.approx(1, abs=1e-5)


def test_no_gradient_comes_through_the_projection_that_is_predicted() -> None:
    p, q, y, z = (waves(SIZE, 5, start=start).requires_grad_() for start in range(4))
    gradients = torch.autograd.grad(loss_of(p, q, y, z), (p, q, y, z), allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [True, True, False, False]


def test_a_step_without_the_stop_would_move_the_projector_otherwise() -> None:
    """The gradient of the projector is that of its own predictions alone, with the targets as numbers."""
    net, twin, batch = net_of(METHOD), net_of(METHOD), batch_at()
    next(iter(METHOD.step(net, batch)))["similarity"].backward()
    with torch.no_grad():
        targets = [net_of(METHOD).project(net_of(METHOD).backbone(view)) for view in (batch.two, batch.one)]
    for view, target in zip((batch.one, batch.two), targets, strict=True):
        said = twin.predict(twin.project(twin.backbone(view)))
        loss = -(nn.functional.normalize(said) * nn.functional.normalize(target)).sum(1).mean() / 2
        loss.backward()
    for own, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None)
        if own.grad is not None and other.grad is not None:
            torch.testing.assert_close(own.grad, other.grad)
    assert touched(net) == {"backbone", "project", "predict"}


def test_the_health_number_sees_a_collapse() -> None:
    net, batch = net_of(METHOD), batch_at()
    for _ in METHOD.step(net, batch):
        pass
    assert 0.05 < float(batch.logged["embedding_std"]) < 1.2
    net.project = Fixed(*[torch.ones(SIZE, 5)] * 2)
    for _ in METHOD.step(net, batch):
        pass
    assert float(batch.logged["embedding_std"]) < 1e-3


# Its layers


def kinds(part: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in part.children()]


def test_every_layer_is_normalised_but_the_predictors_last() -> None:
    net = net_of(METHOD)
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds(net.project) == [*hidden, *hidden, "Linear", "BatchNorm1d"]
    assert kinds(net.predict) == [*hidden, "Linear"]
    assert kinds(net_of(SimSiam(batch_size=SIZE, projector_layers=2)).project) == [*hidden, "Linear", "BatchNorm1d"]
    linear = [layer for part in (net.project, net.predict) for layer in part.children() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(WIDTH, 7), (7, 7), (7, 5), (5, 4), (4, 5)]
    assert [layer.bias is not None for layer in linear] == [False, False, False, False, True]


def test_the_projections_are_standardised_and_stay_so_while_training() -> None:
    net, optimiser = net_of(METHOD), None
    for number in range(5):
        optimiser = METHOD.optimiser(net) if optimiser is None else optimiser
        for losses in METHOD.step(net, batch_at(number / 5)):
            optimiser.zero_grad()
            losses["similarity"].backward()
            optimiser.step()
    projected = net.project(net.backbone(batch_at().one))
    torch.testing.assert_close(projected.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    assert bool((projected.var(0, correction=0) <= 1 + 1e-4).all())
    assert torch.equal(net.project[-1].weight, torch.ones(5))
    assert torch.equal(net.project[-1].bias, torch.zeros(5))


# The rates


def test_the_predictor_keeps_its_rate_while_the_others_warm_up_and_fall() -> None:
    method = SimSiam()
    encoder, predictor = METHOD.optimiser(net_of(METHOD)).param_groups
    assert encoder["lr"] == predictor["lr"] == pytest.approx(0.5 * SIZE / 256)
    groups = [predictor, encoder]  # by name, not by place
    rates = torch.tensor([rates_of(method, step / 1000, groups) for step in range(1001)])
    assert bool((rates[:, 0] == 1).all())
    assert float(rates[0, 1]) * 0.5 == pytest.approx(3e-5)
    assert float(rates[50, 1]) == 1
    assert float(rates[525, 1]) == pytest.approx(0.5)
    assert float(rates[1000, 1]) == pytest.approx(0)


def test_all_that_is_trained_is_in_one_group_each_and_decays() -> None:
    net = net_of(METHOD)
    encoder, predictor = METHOD.optimiser(net).param_groups
    assert {id(p) for p in predictor["params"]} == {id(p) for p in net.predict.parameters()}
    expected = {id(p) for part in (net.backbone, net.project) for p in part.parameters() if p.requires_grad}
    assert {id(p) for p in encoder["params"]} == expected
    assert {group["weight_decay"] for group in (encoder, predictor)} == {1e-5}
    assert {group["momentum"] for group in (encoder, predictor)} == {0.9}
