from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

from coterie.contract import Facts, predict
from coterie.methods.vade import VaDE, practical
from coterie.networks.autoencoder import hidden_and_code
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.training.coerce import coerce
from coterie.types import Batch, InputError, ItemSpec
from helpers.batches import batch_of_views

K = 3
SPEC = ItemSpec("images", channels=1, height=6, width=5)
IMAGES = torch.rand(40, 1, 6, 5, generator=torch.Generator().manual_seed(2)).round(decimals=2)
MEAN, STD = torch.tensor([0.3]), torch.tensor([0.4])
VIEWS = (IMAGES - 0.3) / 0.4


def net_of(method: VaDE) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("ae", SPEC), SPEC, MEAN, STD, half=False)
    net.add(method.heads(net, K))
    return net.train()


def codes(net: Net) -> Tensor:
    return net.backbone(VIEWS).detach()


def batch_of() -> Batch:
    return batch_of_views({"shifted": VIEWS[:16]})


def test_the_loss_is_the_negative_bound_by_torchs_distributions() -> None:
    method = VaDE(reconstruction_weight=2.0)
    net = net_of(method)
    method.start(net, lambda: codes(net), K, torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.mixture.weights.copy_(torch.tensor([0.5, -0.2, 0.1]))
    torch.manual_seed(4)
    (losses,) = list(method.step(net, batch_of()))

    torch.manual_seed(4)
    hidden, mean = hidden_and_code(net, VIEWS[:16])
    deviation = (net.log_variance(hidden) / 2).exp()
    z = mean + deviation * torch.randn_like(mean)
    m, s = net.mixture.means, (net.mixture.log_variances / 2).exp()
    gamma = (Normal(m, s).log_prob(z[:, None]).sum(2) + net.mixture.weights.log_softmax(0)).softmax(1)
    told = -Bernoulli(logits=net.decoder(z), validate_args=False).log_prob(IMAGES[:16].flatten(1)).sum(1)
    within = (gamma * kl_divergence(Normal(mean[:, None], deviation[:, None]), Normal(m, s)).sum(2)).sum(1)
    choice = kl_divergence(Categorical(gamma), Categorical(logits=net.mixture.weights))
    expected = {"reconstruction": 2 * told, "components": within, "choice": choice}
    assert {name: value.item() for name, value in losses.items()} == {
        name: pytest.approx(value.mean().item(), rel=1e-3, abs=1e-4) for name, value in expected.items()
    }


def test_all_parts_are_trained() -> None:
    method = VaDE()
    net = net_of(method)
    method.start(net, lambda: codes(net), K, torch.Generator().manual_seed(0))
    (losses,) = list(method.step(net, batch_of()))
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
    optimised = {id(p) for group in method.optimiser(net).param_groups for p in group["params"]}
    assert optimised == {id(p) for p in net.parameters()}


def test_the_mixture_begins_as_the_blobs_that_are_there() -> None:
    method = VaDE()
    net = net_of(method)
    g = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(K, 10, generator=g)
    z = centres[torch.arange(300) % K] + torch.tensor([0.5, 1.0]).repeat(5) * torch.randn(300, 10, generator=g)
    method.start(net, lambda: z, K, g)
    nearest = torch.cdist(centres, net.mixture.means).argmin(1)
    assert nearest.unique().tolist() == [0, 1, 2]
    torch.testing.assert_close(net.mixture.means[nearest], centres, atol=0.4, rtol=0)
    deviations = (0.5 * net.mixture.log_variances).exp().mean(0)
    torch.testing.assert_close(deviations, torch.tensor([0.5, 1.0]).repeat(5), atol=0.2, rtol=0)
    assert net.mixture.weights.softmax(0).tolist() == pytest.approx([1 / 3] * 3)
    torch.testing.assert_close((0.5 * net.log_variance.bias).exp(), deviations, atol=0.05, rtol=0)  # an item's, too
    p = predict(method, net, z)["mixture"]
    assert torch.equal(nearest[torch.arange(300) % K], p.argmax(1))


def test_the_decoder_begins_with_logits_of_what_it_told_in_phase_one() -> None:
    method = VaDE()
    net = net_of(method)
    z = codes(net)
    told = net.decoder(z).detach()
    method.start(net, lambda: z, K, torch.Generator().manual_seed(0))
    torch.testing.assert_close(net.decoder(z), 6 * (told - 0.5))


def test_embeddings_are_decoded_by_squared_error_whatever_their_range() -> None:
    spec = ItemSpec("embeddings", dim=4)
    net = Net(build_backbone("ae", spec), spec, torch.zeros(4), torch.ones(4), half=False)
    view, said = torch.tensor([[3.0, -2.0, 0.0, 1.0]]), torch.tensor([[1.0, -2.0, 0.0, 0.0]])
    assert VaDE().reconstruction_error(net, view, said).tolist() == [5.0]


def test_pixels_are_decoded_by_the_cross_entropy_in_their_own_range() -> None:
    net, said = net_of(VaDE()), torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    expected = F.binary_cross_entropy(said.sigmoid(), IMAGES[:2].flatten(1), reduction="none").sum(1)
    torch.testing.assert_close(VaDE().reconstruction_error(net, VIEWS[:2], said), expected, rtol=1e-4, atol=1e-4)


def test_the_rate_falls_in_steps_to_its_lowest() -> None:
    method = VaDE(epochs=3000)
    expected = [max(0.9 ** (epoch // 10), 0.1) for epoch in range(3000)]
    assert [method.rate(epoch / 3000) for epoch in range(3000)] == pytest.approx(expected)
    assert method.rate(0.5) == 0.1


def test_the_practical_rate_gets_to_its_lowest() -> None:
    for n in (200, 1797, 70_000):
        method = VaDE(**practical(Facts(n=n, k=10, kind="images", device="cpu", side=8)))
        assert method.rate(1.0) < 0.25


@pytest.mark.parametrize(
    "wrong", [{"decay_every": 0}, {"decay": 0.0}, {"lowest": 2.0}, {"reconstruction_weight": -1.0}]
)
def test_settings_that_cannot_work_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"vade\.{next(iter(wrong))}"):
        coerce(VaDE, wrong, "vade").check(Facts(n=10, k=2, kind="images", device="cpu"))
