from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import make_blobs

from coterie import Clusterer, load
from coterie.algorithms.neighbours import nearest
from coterie.catalogue import practical_settings
from coterie.contract import Facts, views_of
from coterie.evaluation import accuracy
from coterie.methods.rdc import RDC, StoppingCriterion
from coterie.networks.autoencoder import flat
from coterie.objectives.proximity import Rules, proximity
from coterie.pipeline import run
from coterie.training.coerce import coerce
from coterie.types import EpochStart, InputError, RunFailed
from helpers.phases import DATA, batch_of, features_of, net_of, steps, touched


def test_without_core_items_only_reconstruction_is_left():
    method = RDC(core_ratio=1.0, gap=1.0)
    net = net_of(method)
    batch = batch_of(net)
    (losses,) = steps(method, net, batch)
    expected = 30 * (net.decoder(net.backbone(batch.shifted)) - flat(batch.clean)).square().mean()
    assert losses["latent"].item() == 0.0
    torch.testing.assert_close(losses["image"], expected)


def test_with_core_items_only_nothing_is_reconstructed():
    method = RDC(core_ratio=-1.0, gap=math.inf)
    net = net_of(method)
    batch = batch_of(net)
    (losses,) = steps(method, net, batch)
    z = net.backbone(batch.shifted)
    centroid = net.centroids.of(batch.index)[:, :-1]
    torch.testing.assert_close(losses["latent"], (z - centroid).square().mean())
    image = (net.decoder(z) - net.decoder(centroid)).square().mean()
    torch.testing.assert_close(losses["image"], 30 * image)


def test_the_latent_loss_does_not_reach_the_decoder_and_targets_carry_no_gradient():
    method = RDC()
    net = net_of(method)
    (losses,) = steps(method, net, batch_of(net))
    assert touched(net, {"latent": losses["latent"]}) == {"backbone"}
    (losses,) = steps(method, net, batch_of(net))
    assert touched(net, dict(losses)) == {"backbone", "decoder"}
    assert not net.centroids.rows.requires_grad
    assert not net.bank.rows.requires_grad


@pytest.mark.parametrize("refresh", ["bank", "epoch"])
def test_targets_are_made_in_evaluation_mode(refresh):
    border = {"core_ratio": 1.0, "gap": 1.0, "include_border": True, "border_image": "decoded"}
    method = RDC(**border, widest=None, refresh=refresh)
    net = net_of(method)
    norm = torch.nn.BatchNorm1d(10)
    net.backbone.trunk = torch.nn.Sequential(net.backbone.trunk, norm)
    list(steps(method, net, batch_of(net)))
    batch, counted = batch_of(net, number=1, shifted=DATA[16:32]), int(norm.num_batches_tracked)
    net.eval()
    code = net.backbone(batch.clean)
    image = net.decoder(code)
    net.train()
    (losses,) = steps(method, net, batch)
    assert int(norm.num_batches_tracked) == counted + 1  # of the shifted items
    assert net.backbone.training
    z = net.backbone(batch.shifted)
    torch.testing.assert_close(losses["latent"], (z - code).square().mean())
    torch.testing.assert_close(losses["image"], 30 * (net.decoder(z) - image).square().mean())


@pytest.mark.parametrize("refresh", ["bank", "epoch"])
def test_targets_do_not_depend_on_the_distorted_view(refresh):
    method = RDC(refresh=refresh)
    net = net_of(method)
    list(steps(method, net, batch_of(net)))
    first = net.centroids.rows.clone()
    list(steps(method, net, batch_of(net, shifted=torch.zeros(16, 12))))
    assert torch.equal(net.centroids.rows, first)


def test_inputs_are_shifted_unless_augment_is_off():
    assert views_of(RDC())["shifted"].recipe == "shifted"
    assert [view.recipe for view in views_of(RDC(augment=False)).values()] == ["clean", "clean"]
    facts = Facts(n=70_000, k=10, kind="images", device="cpu", side=28)
    assert practical_settings("rdc", facts)["augment"] is False


def test_a_fresh_bank_gives_a_batch_the_targets_of_a_full_refresh():
    nets = []
    for refresh in ("bank", "epoch"):
        method = RDC(refresh=refresh, core_ratio=0.5, gap=0.05)
        net = net_of(method)
        list(steps(method, net, batch_of(net)))
        nets.append(net.centroids.rows)
    torch.testing.assert_close(*nets, rtol=1e-3, atol=1e-5)


def test_between_refreshes_the_bank_takes_the_batchs_new_codes():
    method = RDC(refresh="bank")
    net = net_of(method)
    list(steps(method, net, batch_of(net, number=0)))
    old = net.bank.rows.clone()
    with torch.no_grad():
        net.backbone.trunk.code.weight.mul_(1.5)
        list(steps(method, net, batch_of(net, number=1)))
        fresh = net.backbone(DATA[:16])
    torch.testing.assert_close(net.bank.rows[:16], fresh)
    assert torch.equal(net.bank.rows[16:], old[16:])


def test_shares_are_met_at_the_start_and_published_thresholds_are_kept():
    net = net_of(RDC(core_share=0.4, accepted=0.6))
    batch = batch_of(net)
    list(steps(RDC(), net, batch))
    assert float(batch.logged["core_share"]) == pytest.approx(0.4, abs=0.03)
    assert net_of(RDC(core_ratio=0.6, gap=0.7)).filters.thresholds == (0.6, 0.7)


def test_the_authors_reading_of_the_filters_meets_the_wanted_shares_at_the_start():
    net = net_of(RDC(core_share=0.4, accepted=0.6, gap_from="running", when_none="own_code", core_sense="below"))
    z = features_of(net)()
    distance, neighbour = nearest(z, 5)
    found = proximity(z, distance, neighbour, *net.filters.thresholds, rules=Rules("running", "own_code", "below"))
    assert found.core_share == pytest.approx(0.4, abs=0.03)
    assert float(found.reliable[found.core].float().mean()) == pytest.approx(0.6, abs=0.03)


def test_a_second_filter_that_does_nothing_or_passes_hardly_any_neighbour_is_told_of():
    told = []
    for settings in ({}, {"gap": 1e6}, {"gap": 1e-6}, {"gap": 1e6, "gap_scale": "median"}):
        method = RDC(**settings)
        net = net_of(method)
        epoch = EpochStart(0, features_of(net), torch.Generator())
        method.begin_epoch(net, epoch)
        told.append(epoch.warnings)
    assert told[0] == []
    assert "more than 99% of the neighbours pass, so it does nothing: lower rdc.gap, or set" in told[1][0]
    assert "less than a quarter of the neighbours pass: raise rdc.gap." in told[2][0]
    assert told[3][0].endswith("lower rdc.gap.")


@pytest.mark.parametrize(("factor", "what"), [(1e-4, "collapsed"), (20.0, "diverged: it is 20 times as wide")])
def test_a_code_that_falls_together_or_diverges_stops_the_run(factor, what):
    method = RDC()
    net = net_of(method)
    with torch.no_grad():
        net.backbone.trunk.code.weight.mul_(factor)
    with pytest.raises(RunFailed, match=what):
        list(steps(method, net, batch_of(net)))
    with pytest.raises(RunFailed, match=what):
        method.finish(net, features_of(net), 3, torch.Generator().manual_seed(0))


def test_stable_ends_when_the_share_has_kept_still():
    filters = StoppingCriterion()
    moving = [filters.settled(0.5 + 0.01 * i, "stable") for i in range(12)]
    assert not any(moving)
    still = [filters.settled(0.6, "stable") for _ in range(5)]
    assert still == [False] * 4 + [True]


def test_no_increase_ends_when_the_share_has_not_risen():
    filters = StoppingCriterion()
    falling = [filters.settled(0.9 - 0.01 * i, "no_increase") for i in range(12)]
    assert falling == [False] * 9 + [True] * 3
    filters = StoppingCriterion()
    assert not any(filters.settled(0.02 * i, "no_increase") for i in range(20))
    assert not any(StoppingCriterion().settled(0.5, "never") for _ in range(20))


@pytest.mark.parametrize(
    "wrong", [{"neighbours": 1}, {"core_share": 1.0}, {"accepted": 0.0}, {"gap": 0.0}, {"restarts": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        coerce(RDC, wrong, "rdc").check(Facts(100, 3, "embeddings", "cpu", dim=12))


def test_four_far_blobs_stay_four_groups():
    x, y = make_blobs(300, 50, centers=4, cluster_std=0.5, center_box=(-5, 5), random_state=0)
    # As long as the paper's stages are not: this is a test of the way through, not of how much phase 2 adds.
    model = Clusterer(
        4,
        method="rdc",
        random_state=0,
        calibrate=False,
        epochs=10,
        settings={"acai.epochs": 40, "acai.learning_rate": 3e-3},
    ).fit(x.astype("float32"))
    assert accuracy(y, model.labels_) == 1.0
    shares = [row["health"]["core_share"] for row in model.history_ if row["stage"] == "rdc"]
    assert all(0 <= share <= 1 for share in shares)


pytestmark = pytest.mark.usefixtures("narrow_autoencoders")

POINTS, TRUE = make_blobs(240, 6, centers=4, cluster_std=0.3, center_box=(-8, 8), random_state=0)


def without_k(**settings):
    quick = {"acai.epochs": 20, "acai.learning_rate": 3e-3, "rdc.epochs": 3}
    return Clusterer(
        n_clusters="auto", method="rdc", random_state=0, calibrate=False, settings=quick, device="cpu", **settings
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("without_k") / "run"
    return without_k(output=out).fit(POINTS)


def test_without_a_number_of_groups_dbscan_finds_it(fitted):
    p = fitted.predict_proba(POINTS)
    assert p.shape == (240, 4)
    assert accuracy(TRUE, fitted.labels_) > 0.98
    assert fitted.record_["n_clusters"] == 4
    assert any("DBSCAN" in note and "found 4 groups" in note for note in fitted.record_["notes"])
    loaded = load(fitted.output)
    assert loaded.n_clusters == 4
    assert (loaded.predict_proba(POINTS) == p).all()


def test_a_run_without_k_that_is_resumed_after_its_last_stage_is_the_same(fitted):
    (fitted.output / "result.parquet").unlink()
    again = run(POINTS, fitted._settings(), fitted.output, resume=True)
    assert again.model.k == 4
    assert (again.assignments.probabilities.numpy() == fitted.predict_proba(POINTS)).all()


def what_is_said(points):
    try:
        return " ".join(without_k().fit(points).record_["notes"])
    except RunFailed as failed:  # all in one group
        return f"{failed.reason} {failed.advice}"


def test_points_without_a_gap_end_in_advice_to_give_a_number():
    said = what_is_said(torch.randn(200, 4, generator=torch.Generator().manual_seed(0)).numpy())
    assert "DBSCAN" in said
    assert "-k" in said


def test_cifar10_has_the_same_published_thresholds_as_features_of_vgg16() -> None:
    text = RDC.card.text
    assert text is not None
    for rows in (RDC.card.presets, text.rows):
        assert rows["cifar10-vgg16fc1"] == rows["cifar10"]
