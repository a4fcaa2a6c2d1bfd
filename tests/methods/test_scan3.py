from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coterie.contract import predict
from coterie.methods.scan3 import SCAN3, sure
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.objectives.pseudo_labels import class_weights
from coterie.pipeline import run
from coterie.training.chain import chain_of
from coterie.training.plan import RunSettings
from coterie.types import Batch, InputError, ItemSpec, RunFailed
from helpers.batches import batch_of_views
from helpers.vectors import groups_of_vectors
from helpers.waves import wave

SPEC, K = ItemSpec("embeddings", dim=70), 3
DATA = torch.randn(40, 70, generator=torch.Generator().manual_seed(0))


def net_of(method: SCAN3, times: float = 1.0) -> Net:
    """With `times` the head is so many times surer than by its random weights."""
    torch.manual_seed(0)
    net = Net(build_backbone("mlp", SPEC), SPEC, torch.zeros(70), torch.ones(70), half=False)
    net.backbone.trunk.lift = nn.BatchNorm1d(70)
    net.add(method.heads(net, K))
    with torch.no_grad():
        net.cluster.weight.mul_(times)
    return net.train()


def batch_of(rows: int = 40) -> Batch:
    strong = DATA[:rows] + 0.5 * torch.randn(rows, 70, generator=torch.Generator().manual_seed(1))
    views = {"clean": DATA[:rows], "strong": strong}
    random = torch.Generator().manual_seed(2)
    return batch_of_views(views, generator=random)


# Which items teach


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_kept_items_are_those_above_the_threshold_and_the_surest_of_each_group(
    seed: int, one: float, other: float, share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    confidence, label = torch.rand(20, generator=generator), torch.randint(3, (20,), generator=generator)
    few, many = (sure(confidence, label, threshold, 0.0) for threshold in (max(one, other), min(one, other)))
    assert bool((many | ~few).all())
    assert few.tolist() == [bool(c > torch.tensor(max(one, other))) for c in confidence]
    kept = sure(confidence, label, one, share)
    for group in label.unique():
        mine, above = label == group, int((confidence[label == group] > one).sum())
        least = max(1, int(int(mine.sum()) * share)) if share else 0
        assert int(kept[mine].sum()) == max(least, above)
        if 0 < int(kept[mine].sum()) < int(mine.sum()):
            assert float(confidence[mine & kept].min()) >= float(confidence[mine & ~kept].max())


def test_nobody_above_the_threshold_takes_no_step() -> None:
    method = SCAN3(threshold=1.0)
    batch = batch_of()
    assert list(method.step(net_of(method), batch)) == []
    assert float(batch.logged["selected"]) == 0.0


# The loss


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_the_weighted_cross_entropy_is_the_mean_over_present_groups_of_their_means(seed: int, k: int, n: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits, label = torch.randn(n, k, generator=random), torch.randint(k, (n,), generator=random)
    each = F.cross_entropy(logits, label, reduction="none")
    means = [float(each[label == group].mean()) for group in label.unique()]
    found = F.cross_entropy(logits, label, class_weights(label, k))
    assert float(found) == pytest.approx(sum(means) / len(means), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("balance", [True, False])
def test_sure_items_teach_their_distorted_copies(balance: bool) -> None:
    method = SCAN3(threshold=0.6, balance=balance)
    net, batch = net_of(method, 2.0), batch_of()
    with torch.no_grad():
        p = net.cluster(net.backbone(batch.clean)).softmax(1)
        strong = net.cluster(net.backbone(batch.strong)).log_softmax(1)
    losses: dict[int, list[float]] = {}
    for row in range(40):
        if float(p[row].max()) > 0.6:
            label = int(p[row].argmax())
            losses.setdefault(label, []).append(-float(strong[row, label]))
    assert 3 < sum(map(len, losses.values())) < 40
    everyone = [loss for group in losses.values() for loss in group]
    expected = np.mean([np.mean(group) for group in losses.values()]) if balance else np.mean(everyone)
    (found,) = method.step(net, batch)
    assert float(found["self_label"].detach()) == pytest.approx(float(expected), rel=1e-4)
    assert float(batch.logged["selected"]) == pytest.approx(len(everyone) / 40)


@pytest.mark.parametrize(
    ("threshold", "balance", "expected"),
    [(0.99, True, 2.0521132946), (0.99, False, 2.2798750401), (0.9, True, 2.2926328182), (0.9, False, 2.2887074947)],
)
def test_parity_with_the_authors_loss(threshold: float, balance: bool, expected: float) -> None:
    """`ConfidenceBasedCE` of wvangansbeke/Unsupervised-Classification, commit 952ec31e, on a CPU."""
    clean, strong = wave(40, 5, 1.3, 0.2, 9.0), wave(40, 5, 0.9, 0.7, 2.0)
    confidence, label = clean.softmax(1).max(1)
    keep = sure(confidence, label, threshold, 0.0)
    assert int(keep.sum()) == {0.99: 11, 0.9: 26}[threshold]
    weights = class_weights(label[keep], 5) if balance else None
    assert float(F.cross_entropy(strong[keep], label[keep], weights)) == pytest.approx(expected, rel=1e-5)


def test_no_gradient_comes_from_the_undistorted_items() -> None:
    method = SCAN3(threshold=0.0)
    net, batch = net_of(method), batch_of()
    batch.views["clean"].requires_grad_()
    for losses in method.step(net, batch):
        losses["self_label"].backward()
    assert batch.clean.grad is None
    assert all(p.grad is not None for p in net.cluster.parameters())


# What the net said at the start


def begun(method: SCAN3, net: Net) -> torch.Tensor:
    """The probabilities at the start, of which the method keeps its targets."""

    def features(**_: Any) -> torch.Tensor:
        with torch.no_grad():
            return net.eval().backbone(DATA)

    method.start(net, features, K, torch.Generator())
    p = net.cluster(features()).softmax(1).detach()
    net.train()
    return p


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_of_each_group_the_surest_share_teaches(share: float) -> None:
    method = SCAN3(labels="start", threshold=1.0, at_least=share)
    net = net_of(method)
    p, kept = begun(method, net), net.taught.rows
    confidence, label = p.max(1)
    for group in range(K):
        mine = confidence[label == group].sort(descending=True).values
        taught = kept[label == group].max(1).values.sort(descending=True).values
        count = max(1, int(share * len(mine))) if share else 0
        assert torch.allclose(taught[:count], mine[:count])
        assert not taught[count:].any()


def test_the_targets_are_those_of_the_start_whatever_the_net_says_meanwhile() -> None:
    method = SCAN3(labels="start", at_least=1.0, balance=False, keep_statistics=True)
    net = net_of(method)
    p, batch = begun(method, net), batch_of(30)
    with torch.no_grad():
        net.cluster.weight.neg_()
    (losses,) = list(method.step(net, batch))
    expected = -(p[:30] * net.cluster(net.backbone(batch.strong)).log_softmax(1)).sum(1).mean()
    assert torch.allclose(losses["self_label"], expected, atol=1e-6)


def test_with_balance_groups_weigh_equally_where_the_start_teaches() -> None:
    """The loss was as many times that as there are groups, and drew an item's own target towards rare groups."""
    method = SCAN3(labels="start", at_least=1.0, keep_statistics=True)
    net = net_of(method)
    p, batch = begun(method, net)[:30], batch_of(30)
    (losses,) = list(method.step(net, batch))
    each = -(p * net.cluster(net.backbone(batch.strong)).log_softmax(1)).sum(1)
    sizes = p.argmax(1).bincount(minlength=K)
    assert int(sizes.min()) < int(sizes.max())
    expected = torch.stack([each[p.argmax(1) == group].mean() for group in range(K) if sizes[group]]).mean()
    assert torch.allclose(losses["self_label"], expected, atol=1e-6)


def test_groups_that_the_net_is_unsure_of_last_where_the_start_teaches_and_shrink_least_where_some_of_each_do() -> None:
    """By a threshold alone few of their items teach, so little holds them."""
    used: dict[str, int] = {}
    ways = {
        "threshold": SCAN3(threshold=0.97, keep_statistics=True),
        "of each": SCAN3(threshold=0.97, at_least=0.5, keep_statistics=True),
        "start": SCAN3(labels="start", threshold=1.0, at_least=1.0, balance=False, keep_statistics=True),
    }
    for way, method in ways.items():
        net = net_of(method, times=4.0)
        with torch.no_grad():
            net.cluster.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))  # of one group the net is surer
        before, optimiser = begun(method, net).argmax(1), method.optimiser(net)
        assert before.bincount(minlength=K).min() > 0
        for _ in range(150):
            for losses in method.step(net, batch_of()):
                optimiser.zero_grad()
                losses["self_label"].backward()
                optimiser.step()
        groups = net.eval().cluster(net.backbone(DATA)).argmax(1)
        used[way] = int((groups > 0).sum())
    unsure = int((before > 0).sum())
    assert used["start"] >= 0.85 * unsure
    assert used["threshold"] <= 0.75 * unsure
    assert used["of each"] > used["threshold"]


# Running statistics


@pytest.mark.parametrize(("clean_trains", "seen"), [(True, 2), (False, 1)])
def test_undistorted_items_feed_the_running_statistics_if_they_are_to(clean_trains: bool, seen: int) -> None:
    method = SCAN3(threshold=0.0, clean_trains=clean_trains)
    net = net_of(method)
    for _ in method.step(net, batch_of()):
        pass
    assert int(net.get_submodule("backbone.trunk.lift").state_dict()["num_batches_tracked"]) == seen
    assert net.backbone.training
    assert net.cluster.training


@pytest.mark.parametrize("clean_trains", [True, False])
def test_statistics_that_are_to_be_kept_are(clean_trains: bool) -> None:
    method = SCAN3(threshold=0.0, clean_trains=clean_trains, keep_statistics=True)
    net = net_of(method)
    before = {name: value.clone() for name, value in net.backbone.state_dict().items() if "running" in name}
    for losses in method.step(net, batch_of()):
        losses["self_label"].backward()
    assert before
    assert all(torch.equal(net.backbone.state_dict()[name], value) for name, value in before.items())


# Whole runs


blobs = partial(groups_of_vectors, n=120, k=K, apart=1.0, noise=0.5)


def test_it_goes_on_from_scan_on_images_and_on_embeddings() -> None:
    assert chain_of("scan3", "images", None) == ["moco", "scan", "scan3"]
    assert chain_of("scan3", "embeddings", None) == ["scan", "scan3"]
    with pytest.raises(InputError, match="SCAN-3 goes on from the cluster of scan"):
        chain_of("scan3", "embeddings", None, pretrain="none")
    assert chain_of("scan3", "images", None, pretrain="none") == ["scan", "scan3"]
    assert chain_of("scan3", "images", "runs/scan", pretrain="none") == ["scan3"]


def settings_for(**more: Any) -> RunSettings:
    overrides = {"scan.epochs": 30, "scan3.epochs": 5, **more}
    return RunSettings(K, "scan3", overrides=overrides, device="cpu", calibrate=False)


def test_groups_that_lie_apart_stay_found_and_become_surer() -> None:
    x, truth = blobs()
    before = run(x, RunSettings(K, "scan", overrides={"scan.epochs": 30}, device="cpu", calibrate=False))
    after = run(x, settings_for())
    found = after.assignments.probabilities
    assert len({(a, b) for a, b in zip(found.argmax(1).tolist(), truth.tolist(), strict=True)}) == K
    assert torch.equal(found.argmax(1), before.assignments.probabilities.argmax(1))
    assert float(found.amax(1).mean()) > float(before.assignments.probabilities.amax(1).mean())


def test_a_head_with_batch_normalisation_goes_on() -> None:
    x, _ = blobs(n=60)
    heads = {
        f"{stage}.{name}": value for stage in ("scan", "scan3") for name, value in (("head", "mlp"), ("hidden", 8))
    }
    found = run(x, settings_for(**{"scan.epochs": 3, "scan3.epochs": 1, **heads}))
    assert found.assignments.probabilities.shape == (60, K)


def test_without_epochs_it_answers_as_scan_did() -> None:
    x, _ = blobs()
    before = run(x, RunSettings(K, "scan", overrides={"scan.epochs": 3}, device="cpu", calibrate=False))
    after = run(x, settings_for(**{"scan.epochs": 3, "scan3.epochs": 0}))
    assert torch.equal(after.assignments.probabilities, before.assignments.probabilities)


def test_a_run_in_which_nobody_is_ever_sure_says_so() -> None:
    x, _ = blobs(n=60)
    with pytest.raises(RunFailed, match=r"selected no item .* lower --set scan3\.threshold"):
        run(x, settings_for(**{"scan.epochs": 1, "scan3.threshold": 1.0, "scan3.at_least": 0.0}))


def test_it_predicts_by_the_softmax_of_its_head() -> None:
    method = SCAN3()
    net = net_of(method).eval()
    torch.testing.assert_close(predict(method, net, DATA)["softmax"], net.cluster(DATA).softmax(1))
