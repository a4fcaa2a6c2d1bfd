from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from coterie.algorithms.kmeans import assign
from coterie.contract import predict
from coterie.methods.vae import VAE
from coterie.networks.autoencoder import hidden_and_code
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.types import Batch, ItemSpec
from helpers.batches import batch_of_views

SPEC = ItemSpec("images", channels=1, height=6, width=5)
IMAGES = torch.rand(16, 1, 6, 5, generator=torch.Generator().manual_seed(2)).round(decimals=2)
VIEWS = (IMAGES - 0.3) / 0.4


def net_of(method: VAE) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("ae", SPEC), SPEC, torch.tensor([0.3]), torch.tensor([0.4]), half=False)
    net.add(method.heads(net, 3))
    return net.train()


def batch_of(views: torch.Tensor = VIEWS, progress: float = 1.0) -> Batch:
    return batch_of_views({"shifted": views}, progress=progress)


def losses_of(method: VAE, net: Net, batch: Batch) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    (losses,) = list(method.step(net, batch))
    assert isinstance(losses, dict)
    return dict(losses)


def test_the_loss_is_the_negative_bound_by_torchs_distributions() -> None:
    method = VAE(divergence_weight=2.0, variance=0.2)
    net = net_of(method)
    losses = losses_of(method, net, batch_of())
    torch.manual_seed(4)
    hidden, mean = hidden_and_code(net, VIEWS)
    deviation = (net.log_variance(hidden) / 2).exp()
    z = mean + deviation * torch.randn_like(mean)
    said = Normal(net.decoder(z), 0.2**0.5)
    cost = -(said.log_prob(VIEWS.flatten(1)) - said.log_prob(said.mean)).sum(1)
    apart = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1)
    assert losses["reconstruction"].item() == pytest.approx(cost.mean().item(), rel=1e-3)
    assert losses["divergence"].item() == pytest.approx(2 * apart.mean().item(), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(progress=st.floats(0, 1), warm_up=st.floats(0, 1), weight=st.floats(0, 10))
def test_the_weight_of_the_prior_rises_from_nothing_and_then_stays(
    progress: float, warm_up: float, weight: float
) -> None:
    method = VAE(warm_up=warm_up, divergence_weight=weight)
    found = method.weight_at(progress)
    assert 0 <= found <= weight
    if progress >= warm_up:
        assert found == weight
    assert warm_up == 0 or method.weight_at(0.0) == 0


def test_all_parts_are_trained() -> None:
    method = VAE()
    net = net_of(method)
    torch.stack(list(losses_of(method, net, batch_of()).values())).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
    optimised = {id(p) for group in method.optimiser(net).param_groups for p in group["params"]}
    assert optimised == {id(p) for p in net.parameters()}


def test_a_posterior_that_is_the_prior_has_no_dimension_in_use() -> None:
    method = VAE()
    net, batch = net_of(method), batch_of()
    with torch.no_grad():
        for layer in (net.backbone.trunk.code, net.log_variance):
            layer.weight.zero_()
            layer.bias.zero_()
    losses = losses_of(method, net, batch)
    assert losses["divergence"].item() == 0
    assert batch.logged["used"].item() == 0
    with torch.no_grad():
        net.backbone.trunk.code.bias[:3] = 2.0  # KL 2 each
    batch = batch_of()
    losses = losses_of(method, net, batch)
    assert losses["divergence"].item() == pytest.approx(6.0, rel=1e-5)
    assert batch.logged["used"].item() == 3


def test_a_variance_far_out_stays_finite() -> None:
    method = VAE()
    net = net_of(method)
    with torch.no_grad():
        net.log_variance.bias.fill_(1000.0)
    assert all(bool(loss.isfinite()) for loss in losses_of(method, net, batch_of()).values())


def test_the_answer_is_k_means_on_the_means() -> None:
    method = VAE()
    net = net_of(method)
    z = torch.randn(60, 10, generator=torch.Generator().manual_seed(3)) + 4 * torch.eye(10)[torch.arange(60) % 3]
    method.finish(net, lambda: z, 3, torch.Generator().manual_seed(0))
    p = predict(method, net, z)["kmeans"]
    assert torch.equal(p.argmax(1), assign(z, net.groups.centres)[0])
