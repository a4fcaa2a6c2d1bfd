from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from coterie.contract import Facts, check
from coterie.methods.adec import ADEC
from coterie.objectives.assignment import soft_assign_t, target_distribution
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings, make_plan
from coterie.types import InputError
from helpers.phases import DATA, batch_of, net_of, steps, touched_by_step


def test_each_step_changes_only_its_own_network():
    method = ADEC(discriminator_epochs=0)
    net = net_of(method)
    taken = touched_by_step(method, net, batch_of(net))
    assert taken == [{"backbone", "clusters"}, {"decoder"}, {"discriminator"}]


def test_the_losses_of_all_three_steps() -> None:
    method = ADEC(discriminator_epochs=0, adversarial_weight=0.5)
    net = net_of(method, spread=30.0)
    shifted, clean = DATA[:16].roll(1, 1), DATA[:16]
    encoder, decoder, discriminator = steps(method, net, batch_of(net, shifted=shifted))
    with torch.no_grad():
        z = net.backbone(shifted)
        told = net.decoder(z)
        # How likely it finds a reconstruction, and an item, to be real.
        made, real = net.discriminator(told).sigmoid(), net.discriminator(clean).sigmoid()
        q = soft_assign_t(z, net.clusters.centres)
        p = target_distribution(soft_assign_t(net.backbone(DATA), net.clusters.centres))[:16]
    expected = {
        "divergence": (p * (p / q).log()).sum(1).mean(),
        "adversarial": -0.5 * made.log().mean(),
        "reconstruction": (told - clean).square().mean(),
        "discriminator": -(real.log() + (1 - made).log()).mean(),
    }
    found = {name: value.item() for name, value in {**encoder, **decoder, **discriminator}.items()}
    assert found == {name: pytest.approx(value.item(), rel=1e-3) for name, value in expected.items()}


def test_the_discriminator_is_alone_at_first():
    method = ADEC(discriminator_epochs=1)
    net = net_of(method)
    for number in (0, 1):
        assert [list(losses) for losses in steps(method, net, batch_of(net, number))] == [["discriminator"]]
    assert len(list(steps(method, net, batch_of(net, number=2)))) == 3


def test_the_encoder_can_learn_in_part_of_the_batches():
    method = ADEC(discriminator_epochs=0, encode_every=2)
    net = net_of(method)
    assert [len(list(steps(method, net, batch_of(net, number)))) for number in (0, 1, 2)] == [3, 2, 3]


def test_a_fooled_discriminator_leaves_the_encoder_little_to_learn_from_it():
    method = ADEC(discriminator_epochs=0)
    net = net_of(method)
    net.discriminator.trunk.layers[-1].bias.data.fill_(20.0)
    losses = next(iter(steps(method, net, batch_of(net))))
    assert 0 <= losses["adversarial"].item() < 1e-6
    net.discriminator.trunk.layers[-1].bias.data.fill_(-20.0)
    losses = next(iter(steps(method, net, batch_of(net))))
    assert losses["adversarial"].item() == pytest.approx(20.0, abs=1.0)


@pytest.mark.parametrize("wrong", [{"encode_every": 0}, {"adversarial_weight": -1.0}, {"discriminator_epochs": -1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        coerce(ADEC, wrong, "adec").check(Facts(100, 3, "embeddings", "cpu", dim=12))


def test_a_beginning_that_leaves_the_encoder_no_epoch_is_refused_or_shortened() -> None:
    facts = Facts(n=300, k=3, kind="embeddings", device="cpu", dim=12)
    with pytest.raises(InputError, match=r"adec\.discriminator_epochs is 5 of adec\.epochs 5"):
        check(ADEC(epochs=5, discriminator_epochs=5), facts)
    check(ADEC(epochs=0), facts)
    plan = make_plan(RunSettings(n_clusters=3, method="adec", epochs=1), facts, "few")
    assert plan.method == replace(plan.method, epochs=1, discriminator_epochs=0)
    assert any("discriminator_epochs 1 -> 0" in note for note in plan.notes)


def test_an_encoder_that_would_be_trained_once_is_refused() -> None:
    facts = Facts(n=399, k=3, kind="embeddings", device="cpu", dim=12)  # of which 99 fill no batch
    method = ADEC(epochs=4, discriminator_epochs=1, batch_size=100, encode_every=8)
    check(method, facts)
    with pytest.raises(InputError, match=r"adec\.encode_every is 9, and there are 9 batches after"):
        check(replace(method, encode_every=9), facts)
    check(ADEC(epochs=2, discriminator_epochs=1, batch_size=1000), facts)  # of one batch, in which it learns
