from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.algorithms.kmeans import assign, refine
from coterie.contract import Facts, Method, predict
from coterie.methods.dcn import DCN, move_centres
from coterie.networks.net import Net
from coterie.training.coerce import coerce
from coterie.types import Batch, InputError
from helpers import phases
from helpers.phases import DATA, K, features_of, steps


def net_of(method: Method) -> Net:
    return phases.net_of(method, spread=30.0)


def batch_of(net: Net, number: int = 0) -> Batch:
    return phases.batch_of(net, number, shifted=DATA[:16].roll(1, 1))


@given(st.integers(1, 4), st.integers(1, 20), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_centres_follow_a_batch_as_if_item_after_item_came(k: int, n: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    centres, z, own = (
        torch.randn(k, 3, generator=g),
        torch.randn(n, 3, generator=g),
        torch.randint(k, (n,), generator=g),
    )
    given_before = torch.randint(1, 200, (k,), generator=g).float()
    slow, counts = centres.double().clone(), given_before.double().clone()
    for row, group in zip(z.double(), own.tolist(), strict=True):
        counts[group] += 1
        slow[group] = (1 - 1 / counts[group]) * slow[group] + row / counts[group]
    move_centres(centres, given_before, z, own)
    torch.testing.assert_close(centres.double(), slow, rtol=1e-4, atol=1e-5)
    assert torch.equal(given_before.double(), counts)


def test_the_losses_are_sums_over_values_and_means_over_items() -> None:
    method = DCN(reconstruction_weight=2.0, cluster_weight=3.0)
    net = net_of(method)
    batch, centres = batch_of(net), net.groups.centres.clone()
    losses = next(steps(method, net, batch))
    z = net.backbone(batch.shifted)
    told = net.decoder(z).detach()
    z = z.detach()
    own = assign(z.detach(), centres)[0]
    error = sum(float((told[i] - batch.clean[i]).square().sum()) for i in range(16)) / 16
    distance = sum(float((z[i] - centres[own[i]]).square().sum()) for i in range(16)) / 16
    assert losses["reconstruction"].item() == pytest.approx(2 * error, rel=1e-4)
    assert losses["distance"].item() == pytest.approx(3 * distance, rel=1e-4)


def test_no_gradient_reaches_a_centre_and_they_move_after_the_step() -> None:
    method = DCN()
    net = net_of(method)
    before = net.groups.centres.clone()
    taken = steps(method, net, batch_of(net))
    torch.stack(list(next(taken).values())).sum().backward()
    assert not net.groups.centres.requires_grad
    assert torch.equal(net.groups.centres, before)
    assert next(taken, None) is None
    assert not torch.equal(net.groups.centres, before)
    assert float(net.count.given.sum()) == K * method.first_count + 16
    touched = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"backbone", "decoder"}


def test_k_means_goes_on_from_the_centres_every_so_many_epochs() -> None:
    method = DCN(refit_every=2)
    for number, refits in ((0, False), (2, False), (3, False), (4, True)):
        net = net_of(method)
        moved = net.groups.centres + 0.02 * torch.randn(K, 10, generator=torch.Generator().manual_seed(2))
        net.groups.centres.copy_(moved)
        next(steps(method, net, batch_of(net, number)))
        expected = refine(features_of(net)(), moved).centres if refits else moved
        torch.testing.assert_close(net.groups.centres, expected)


def test_the_answer_is_the_nearest_centre() -> None:
    method = DCN()
    net = net_of(method)
    method.finish(net, features_of(net), K, torch.Generator())
    z = features_of(net)()
    p = predict(method, net, z)["nearest"]
    assert torch.equal(p.argmax(1), assign(z, net.groups.centres)[0])


@pytest.mark.parametrize("wrong", [{"first_count": 0}, {"refit_every": 0}, {"restarts": 0}, {"cluster_weight": -1.0}])
def test_settings_that_cannot_work_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"dcn\.{next(iter(wrong))}"):
        coerce(DCN, wrong, "dcn").check(Facts(n=10, k=2, kind="images", device="cpu"))
