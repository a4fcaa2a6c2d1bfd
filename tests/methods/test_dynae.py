from __future__ import annotations

import pytest
import torch

from coterie.contract import Facts
from coterie.methods.dynae import DynAE, Thresholds, practical
from coterie.objectives.assignment import soft_assign_t
from coterie.training.coerce import coerce
from coterie.types import InputError
from helpers.phases import DATA, K, batch_of, net_of, touched


def test_thresholds_fall_by_the_published_steps_until_every_item_is_sure():
    thresholds = Thresholds(3.0, 10)
    expected = 0.3
    for step in (0.09, 0.09, 0.027, 0.0081):
        thresholds.lower()
        expected -= step
        assert float(thresholds.beta[0]) == pytest.approx(expected, abs=1e-6)
    for _ in range(30):
        thresholds.lower()
    assert float(thresholds.beta[0]) < 0.1
    assert float(thresholds.beta[1]) < 0
    q = torch.rand(50, 10, generator=torch.Generator().manual_seed(0)).mul(0.1).softmax(1)
    assert thresholds.sure(q).all()


@pytest.mark.parametrize(("k", "lowered"), [(10, (-0.09, 0.21)), (2, (-0.45, -0.15))])
def test_thresholds_of_the_code_of_rdcs_authors(k: int, lowered: tuple[float, float]) -> None:
    thresholds = Thresholds(3.0, k, 0.0, 0.3)
    assert thresholds.beta.tolist() == pytest.approx((0.0, 0.3))
    thresholds.lower()
    assert thresholds.beta.tolist() == pytest.approx(lowered, abs=1e-6)


def test_where_thresholds_fall_once_the_second_time_changes_nothing() -> None:
    method = DynAE(refresh_every=1, lower_once=True)
    net = net_of(method)
    net.thresholds.beta.copy_(torch.tensor([2.0, 2.0]))
    for number in range(2):
        list(method.step(net, batch_of(net, number=number)))
    once, centres = net.thresholds.beta.clone(), net.clusters.centres.clone()
    assert float(once[0]) == pytest.approx(2.0 - 0.3 * 3 / K)
    for number in range(2, 5):
        list(method.step(net, batch_of(net, number=number)))
    assert torch.equal(net.thresholds.beta, once)
    assert torch.equal(net.clusters.centres, centres)


def test_sure_needs_a_high_probability_and_a_clear_lead():
    thresholds = Thresholds(1.5, 3)  # above 0.5, ahead by more than 0.25
    q = torch.tensor([[0.7, 0.2, 0.1], [0.55, 0.40, 0.05], [0.45, 0.1, 0.45], [0.52, 0.24, 0.24]])
    assert thresholds.sure(q).tolist() == [True, False, False, True]


def test_sure_items_aim_at_the_centre_and_conflicted_ones_at_themselves():
    method = DynAE()
    net = net_of(method)
    batch = batch_of(net, number=1)
    net.thresholds.beta.copy_(torch.tensor([2.0, 2.0]))  # none is sure
    (losses,) = method.step(net, batch)
    z = net.backbone(batch.shifted)
    assert losses["latent"].item() == pytest.approx(0.0, abs=1e-10)  # the views are equal here
    torch.testing.assert_close(losses["image"], (net.decoder(z) - batch.clean).square().mean())
    net.thresholds.beta.copy_(torch.tensor([-1.0, -1.0]))  # all are
    (losses,) = method.step(net, batch)
    label = soft_assign_t(z, net.clusters.centres).argmax(1)
    torch.testing.assert_close(losses["latent"], (z - net.clusters.centres[label]).square().mean())


def test_the_clean_item_says_who_is_sure_and_what_the_distorted_one_aims_at() -> None:
    method = DynAE(image_weight=2.0)
    net = net_of(method, spread=30.0)
    clean, shifted = DATA[:16], DATA[:16].roll(1, 1)
    with torch.no_grad():
        own, z, images = net.backbone(clean), net.backbone(shifted), net.decoder(net.clusters.centres)
        q = soft_assign_t(own, net.clusters.centres)
        net.thresholds.beta.copy_(torch.tensor([float(q.amax(1).median()), -1.0]))
        sure, label, told = net.thresholds.sure(q), q.argmax(1).tolist(), net.decoder(z)
        assert 0 < int(sure.sum()) < 16
        latent = image = 0.0
        for i in range(16):
            code, aim = (net.clusters.centres[label[i]], images[label[i]]) if sure[i] else (own[i], clean[i])
            latent += float((z[i] - code).square().mean()) / 16
            image += 2 * float((told[i] - aim).square().mean()) / 16
    (losses,) = method.step(net, batch_of(net, number=1, shifted=shifted))
    assert losses["latent"].item() == pytest.approx(latent, rel=1e-4)
    assert losses["image"].item() == pytest.approx(image, rel=1e-4)


def test_centres_begin_as_codes_of_items_and_learn_nothing():
    method = DynAE()
    net = net_of(method)
    codes = net.backbone(DATA).detach()
    for centre in net.clusters.centres:
        assert float((codes - centre).square().sum(1).min()) < 1e-10
    (losses,) = method.step(net, batch_of(net))
    assert touched(net, dict(losses)) <= {"backbone", "decoder"}


def test_no_progress_lowers_the_thresholds_and_few_conflicts_end_the_stage():
    method = DynAE(refresh_every=1)
    net = net_of(method)
    net.thresholds.beta.copy_(torch.tensor([2.0, 2.0]))
    list(method.step(net, batch_of(net, number=0)))
    assert float(net.thresholds.beta[0]) == 2.0
    list(method.step(net, batch_of(net, number=1)))
    assert float(net.thresholds.beta[0]) == pytest.approx(2.0 - 0.3 * 3 / K)
    net.thresholds.beta.copy_(torch.tensor([-1.0, -1.0]))
    batch = batch_of(net, number=2)
    list(method.step(net, batch))
    assert batch.ended


def test_with_two_groups_some_items_can_be_sure_at_once():
    facts = Facts(100, 2, "embeddings", "cpu", dim=12)
    assert practical(facts)["kappa"] / 2 < 1


@pytest.mark.parametrize("wrong", [{"kappa": 0.0}, {"refresh_every": 0}, {"restarts": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        coerce(DynAE, wrong, "dynae").check(Facts(100, 3, "embeddings", "cpu", dim=12))
