from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.contract import Facts
from coterie.data.items import Embeddings
from coterie.methods.acai import ACAI
from coterie.training.coerce import coerce
from coterie.training.passes import plan_passes
from coterie.types import InputError
from helpers.phases import DATA, batch_of, net_of, steps, touched_by_step


def test_each_step_teaches_one_side_only():
    method = ACAI()
    net = net_of(method)
    assert touched_by_step(method, net, batch_of(net)) == [{"backbone", "decoder"}, {"critic"}]


@pytest.mark.parametrize("pairing", ["own", "all"])
def test_both_losses_item_by_item(pairing: Literal["own", "all"]) -> None:
    """Eq. 1 and 2 with R-DC's readings: means over values, the batch reversed, one blend for the whole batch."""
    method = ACAI(interpolation_weight=0.25, critic_pairing=pairing)
    net = net_of(method, spread=30.0)
    with torch.no_grad():
        net.critic.trunk.layers[-1].weight.mul_(200)  # what it says of one item and of another differs
    batch = batch_of(net, shifted=DATA[:16].roll(1, 1))
    autoencoder, critic = steps(method, net, batch)
    drawn = torch.Generator().manual_seed(0)
    alpha = [0.5 - abs(share - 0.5) for share in torch.rand(16, generator=drawn).tolist()]
    blend = float(torch.rand(1, generator=drawn)) / 2
    with torch.no_grad():
        x = batch.shifted
        z = net.backbone(x)
        told = net.decoder(z)
        mixed = net.decoder(torch.stack([alpha[i] * z[i] + (1 - alpha[i]) * z[15 - i] for i in range(16)]))
        said, of_real = net.critic(mixed).tolist(), net.critic(blend * x + (1 - blend) * told).tolist()
    error = sum(float((told[i] - x[i]).square().mean()) for i in range(16)) / 16
    pairs = [(i, i) for i in range(16)] if pairing == "own" else [(i, j) for i in range(16) for j in range(16)]
    wrong = sum((said[i] - alpha[j]) ** 2 for i, j in pairs) / len(pairs) + sum(a**2 for a in of_real) / 16
    assert autoencoder["reconstruction"].item() == pytest.approx(error, rel=1e-4)
    assert autoencoder["interpolation"].item() == pytest.approx(0.25 * sum(a**2 for a in said) / 16, rel=1e-4)
    assert critic["critic"].item() == pytest.approx(wrong, rel=1e-4)


def test_a_frozen_critic_gets_no_step():
    method = ACAI(critic_frozen=True)
    net = net_of(method)
    assert touched_by_step(method, net, batch_of(net)) == [{"backbone", "decoder"}]


def test_the_critic_learns_from_what_was_decoded_before_the_other_side_moved():
    method = ACAI()
    net = net_of(method)
    taken = steps(method, net, batch_of(net))
    next(taken)
    with torch.no_grad():
        for p in net.decoder.parameters():
            p.mul_(0)
    moved = next(taken)["critic"]
    net = net_of(method)
    _, still = steps(method, net, batch_of(net))
    torch.testing.assert_close(moved, still["critic"])


def test_the_weight_rises_over_the_warm_up():
    method = ACAI(warm_up=0.5)
    assert [method.weight(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.25, 0.5, 0.5]
    assert ACAI().weight(0.0) == 0.5


def test_without_weight_the_interpolations_teach_nothing():
    method = ACAI(interpolation_weight=0.0)
    net = net_of(method)
    (losses, _) = steps(method, net, batch_of(net))
    assert losses["interpolation"].item() == 0.0


@pytest.mark.parametrize("wrong", [{"restarts": 0}, {"interpolation_weight": -1.0}, {"warm_up": 1.5}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        coerce(ACAI, wrong, "acai").check(Facts(100, 3, "embeddings", "cpu", dim=12))


@given(st.integers(2, 40), st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_in_fixed_slices_every_item_is_mixed_with_one_drawn_anew(n: int, seed: int) -> None:
    method, net = ACAI(order="source"), net_of(ACAI())
    partners = method.partners(n, batch_of(net, number=seed))
    assert torch.equal(partners[partners], torch.arange(n))  # pairs, and with an odd number one item by itself
    assert int((partners == torch.arange(n)).sum()) == n % 2
    assert ACAI().partners(n, batch_of(net)).tolist() == list(range(n))[::-1]


def test_fixed_slices_end_with_the_incomplete_one() -> None:
    (way,) = plan_passes(ACAI(order="source"), Embeddings(np.zeros((10, 1), np.float32)), None, 4, 1)
    for epoch in (0, 1):
        assert [rows.tolist() for rows in way.batches(0, "acai", epoch)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
