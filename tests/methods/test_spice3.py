from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coterie.algorithms.neighbours import neighbour_lists
from coterie.contract import Facts, passes_of, predict, start
from coterie.methods.spice3 import NONE, SPICE3, Mixture, balanced
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.objectives.pseudo_labels import consistency_loss, reliable
from coterie.pipeline import run
from coterie.training.chain import chain_of
from coterie.training.plan import RunSettings
from coterie.types import Batch, Features, ItemSpec, RunFailed
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.vectors import groups_of_vectors
from helpers.waves import wave

SPEC, K, N = ItemSpec("embeddings", dim=70), 3, 30
DATA = torch.eye(3).repeat(10, 1) @ torch.randn(3, 70, generator=torch.Generator().manual_seed(0))
DATA += 0.1 * torch.randn(N, 70, generator=torch.Generator().manual_seed(1))
SMALL = SPICE3(epochs=2, steps=3, batch_size=12, labelled=4, neighbours=5, hidden=8, begins="inherited")


def net_of(method: SPICE3) -> Net:
    """Its inherited head is sure of the three groups of the data."""
    torch.manual_seed(0)
    net = Net(build_backbone("mlp", SPEC), SPEC, torch.zeros(70), torch.ones(70), half=False)
    net.backbone.trunk.lift = nn.BatchNorm1d(70)
    net.add(method.heads(net, K))
    net.cluster = nn.Linear(70, K)
    with torch.no_grad():
        net.cluster.weight.copy_(DATA[:3])
        net.cluster.bias.copy_(-DATA[:3].square().sum(1) / 2)
    start(method, net.eval(), features_of(net), K, torch.Generator().manual_seed(0))
    return net.train()


def features_of(net: Net) -> Features:
    return lambda half=False, by=None, most=None: net.backbone(DATA).detach()


def batch_of(net: Net, number: int = 0) -> Batch:
    rows = net.mixture.draw(12, torch.Generator().manual_seed(3))
    views = {"weak": DATA[rows] + 0.05, "strong": 0.7 * DATA[rows]}
    random = torch.Generator().manual_seed(2)
    return batch_of_views(views, index=rows, generator=random, number=number, per_epoch=3)


# Reliable items


@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_an_item_is_reliable_if_it_is_sure_and_its_neighbours_are_in_its_group(
    seed: int, k: int, consistency: float, confidence: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    p = (4 * torch.randn(25, k, generator=random)).softmax(1)
    lists = neighbour_lists(torch.randn(25, 3, generator=random), 6)
    found = reliable(p, lists, consistency, confidence)
    label = p.argmax(1).tolist()
    for item, own in enumerate(lists.tolist()):
        share = sum(label[j] == label[item] for j in own)
        assert bool(found[item]) == (share >= consistency * 7 - 1e-6 and bool(p[item].max() > confidence))


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_reliable_items_are_fewer_the_more_neighbours_must_agree(seed: int, one: float, other: float) -> None:
    random = torch.Generator().manual_seed(seed)
    p = (4 * torch.randn(25, 3, generator=random)).softmax(1)
    lists = neighbour_lists(torch.randn(25, 3, generator=random), 6)
    few, many = (reliable(p, lists, share, 0.5) for share in (max(one, other), min(one, other)))
    assert bool((many | ~few).all())


def test_the_most_consistent_of_each_group_are_reliable_in_any_case_and_of_those_the_surest() -> None:
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.1, 0.9], [0.4, 0.6]])
    lists = torch.tensor([[0, 4], [1, 2], [2, 1], [3, 0], [4, 0], [5, 1]])
    assert not bool(reliable(p, lists, 1.0, 0.99).any())
    # Groups of four and two: two items of the first by consistency, then confidence; one of the second by confidence.
    assert reliable(p, lists, 1.0, 0.99, at_least=0.5).tolist() == [False, True, True, False, True, False]
    assert int(reliable(p, lists, 1.0, 0.99, at_least=0.01).sum()) == 2


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_equally_many_of_each_group_are_labelled_by_their_own_group(seed: int, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    label = torch.cat([torch.arange(k), torch.randint(k, (30,), generator=random)])
    keep = torch.cat([torch.ones(k, dtype=torch.bool), torch.rand(30, generator=random) < 0.5])
    given_labels = balanced(label, keep, k, random, whole=True)
    known = given_labels != NONE
    assert bool((keep | ~known).all())
    assert torch.equal(given_labels[known], label[known])
    smallest = min(int((keep & (label == group)).sum()) for group in range(k))
    assert given_labels[known].bincount(minlength=k).tolist() == [smallest] * k


def test_a_group_without_a_reliable_item_ends_the_run_with_what_to_try() -> None:
    label, keep = torch.tensor([0, 0, 1, 2]), torch.tensor([True, True, False, True])
    random = torch.Generator().manual_seed(0)
    for whole in (True, False):
        with pytest.raises(RunFailed, match=r"no reliable item in group 1 .* spice3\.consistency"):
            balanced(label, keep, 3, random, whole=whole)
    with pytest.raises(RunFailed, match="group 1"):  # nobody is in it
        balanced(torch.tensor([0, 2]), torch.tensor([True, True]), 3, random, whole=True)
    assert balanced(torch.tensor([0, 2]), torch.tensor([True, True]), 3, random, whole=False).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("consistency", "confidence", "count", "rows"),
    [
        (0.3, 0.5, 35, 1067), (0.3, 0.7, 25, 650), (0.3, 0.9, 15, 445), (0.6, 0.5, 30, 845), (0.6, 0.7, 25, 685),
        (0.6, 0.9, 15, 470), (0.9, 0.9, 0, 0),
    ],
)  # fmt: skip
def test_parity_with_the_authors_reliable_items(consistency: float, confidence: float, count: int, rows: int) -> None:
    """`SemHeadMulti.local_consistency` of niuchuangnn/SPICE, commit 5eba5383, with its shuffle left out, on a CPU."""
    z = F.normalize(wave(5, 6, 1.9, 0.1, 1.0).repeat(12, 1) + wave(60, 6, 0.37, 0.8, 0.35))
    p = ((3 * torch.eye(5)).repeat(12, 1) + wave(60, 5, 0.9, 0.7, 2.0)).softmax(1)
    keep, label = reliable(p, neighbour_lists(z, 8), consistency, confidence), p.argmax(1)
    each = [(keep & (label == group)).nonzero().flatten() for group in range(5)]
    smallest = min(len(own) for own in each)
    assert 5 * smallest == count
    assert sum(int(own[:smallest].sum()) for own in each) == rows


# What a batch is made of


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_every_batch_begins_with_labelled_items_and_goes_on_with_any(seed: int, size: int, batches: int) -> None:
    mixture = Mixture(size, max(1, size // 3))
    mixture.labels.fill(torch.where(torch.arange(20) % 4 == 0, 1, NONE)[:, None])
    rows = mixture.draw(size * batches, torch.Generator().manual_seed(seed))
    assert rows.shape == (size * batches,)
    assert bool(((rows >= 0) & (rows < 20)).all())
    assert bool((rows.view(batches, size)[:, : mixture.labelled] % 4 == 0).all())


def test_the_others_are_drawn_from_all_items() -> None:
    mixture = Mixture(10, 1)
    mixture.labels.fill(torch.where(torch.arange(20) == 3, 0, NONE)[:, None])
    rows = mixture.draw(2000, torch.Generator().manual_seed(0)).view(-1, 10)
    assert set(rows[:, 1:].flatten().tolist()) == set(range(20))
    assert rows[:, 0].unique().tolist() == [3]
    assert passes_of(SMALL)[0].steps == 3


# The loss


@pytest.mark.parametrize(
    ("threshold", "expected", "share"), [(0.95, 1.3140714169, 0.6071428657), (0.8, 1.9079982042, 0.8214285970)]
)
def test_parity_with_the_authors_consistency_loss(threshold: float, expected: float, share: float) -> None:
    """`consistency_loss` of the FixMatch in niuchuangnn/SPICE, commit 5eba5383, on a CPU."""
    loss, taught = consistency_loss(wave(28, 5, 1.3, 0.2, 9.0), wave(28, 5, 0.9, 0.7, 2.0), threshold)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert taught.float().mean().item() == pytest.approx(share)


def test_nothing_is_learned_through_weak_views_or_above_a_threshold_that_nobody_reaches() -> None:
    weak, strong = (wave(6, 3, step, 0.1, 4.0).requires_grad_() for step in (1.3, 0.7))
    loss, taught = consistency_loss(weak, strong, 0.5)
    loss.backward()
    assert weak.grad is None
    assert strong.grad is not None
    assert [bool(row.any()) for row in strong.grad] == taught.tolist()
    loss, taught = consistency_loss(weak, strong, 1.01)
    assert loss.item() == 0
    assert not bool(taught.any())


def test_a_step_is_cross_entropy_of_the_labelled_and_of_the_sure_ones_among_the_others() -> None:
    method = replace(SMALL, threshold=0.4, unlabelled_weight=2.0)
    net = net_of(method)
    batch = batch_of(net)
    assert int((net.mixture.labels.rows != NONE).sum()) == 30
    with torch.no_grad():
        both = net.classify(net.backbone(torch.cat([batch.weak, batch.strong])))
        weak, strong = both[:12].double().softmax(1), both[12:].double().log_softmax(1)
    labelled = [-math.log(float(weak[i, int(net.mixture.labels.rows[batch.index[i], 0])])) for i in range(4)]
    others = [-float(strong[i, int(weak[i].argmax())]) * (float(weak[i].max()) >= 0.4) for i in range(4, 12)]
    (losses,) = method.step(net_of(method), batch)
    assert losses["labelled"].item() == pytest.approx(np.mean(labelled), rel=1e-4)
    assert losses["unlabelled"].item() == pytest.approx(2 * np.mean(others), rel=1e-4)
    assert float(batch.logged["trusted"]) == pytest.approx(np.mean([own > 0 for own in others]))
    assert float(batch.logged["groups_taught"]) == 3


def test_labels_are_the_groups_of_the_inherited_head() -> None:
    net = net_of(SMALL)
    assert net.mixture.labels.rows[:, 0].tolist() == [0, 1, 2] * 10


def test_an_item_must_be_as_sure_as_asked_and_is_one_of_its_own_neighbours() -> None:
    """Each group has ten items, so that the eleventh of an item's neighbours is in another one."""
    net = net_of(SMALL)
    with torch.no_grad():
        for parameter in net.cluster.parameters():
            parameter.mul_(0.01)
        confidence, label = net.cluster(DATA).softmax(1).max(1)
    least = min(float(confidence[label == group].median()) for group in range(K))
    assert 0.34 < least < 0.9
    begun = (net.eval(), features_of(net), K, torch.Generator().manual_seed(0))
    start(replace(SMALL, confidence=least, neighbours=10), *begun)
    taught = net.mixture.labels.rows[:, 0] != NONE
    assert 0 < int(taught.sum()) < N
    assert bool((confidence[taught] > least).all())
    for method in (replace(SMALL, confidence=1.0, neighbours=10), replace(SMALL, confidence=least, neighbours=11)):
        with pytest.raises(RunFailed, match="no reliable item"):
            start(method, *begun)


# The average, the schedule, the beginning


def test_the_average_of_the_weights_answers_after_the_last_step_with_the_nets_own_statistics() -> None:
    net = net_of(SMALL)
    optimiser = SMALL.optimiser(net)
    slow = net.classify.weight.detach().clone()
    for number in range(6):
        for losses in SMALL.step(net, batch_of(net, number)):
            optimiser.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimiser.step()
            slow += (1 - SMALL.average) * (net.classify.weight.detach() - slow)
            statistics = net.backbone.trunk.lift.running_mean.clone()
    torch.testing.assert_close(net.classify.weight, slow)
    assert torch.equal(net.backbone.trunk.lift.running_mean, statistics)
    assert net.backbone.trunk.lift.momentum == pytest.approx(0.001)


def test_the_rate_falls_along_seven_sixteenths_of_a_cosine() -> None:
    assert SMALL.rate(0.0) == 1.0
    assert SMALL.rate(1.0) == pytest.approx(math.cos(7 * math.pi / 16))
    assert SMALL.rate(0.5) > 0.5 * (1 + SMALL.rate(1.0))


def test_normalisations_do_not_decay() -> None:
    net = net_of(SMALL)
    decaying, others = SMALL.optimiser(net).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)
    held = {id(p) for p in others["params"]}
    assert {id(net.backbone.trunk.lift.weight), id(net.backbone.trunk.lift.bias)} <= held
    assert id(net.classify.bias) not in held
    assert decaying["nesterov"]


@pytest.mark.parametrize("begins", ["scratch", "inherited"])
def test_the_backbone_begins_anew_or_as_it_is_and_its_average_with_it(begins: Any) -> None:
    net = net_of(replace(SMALL, begins=begins))
    assert bool((net.backbone.trunk.outer.weight == 0).all()) == (begins == "inherited")
    for own, average in zip(net.backbone.parameters(), net.teacher.backbone.parameters(), strict=True):
        assert torch.equal(own, average)


# Settings and whole runs


def test_it_comes_after_spice_whose_head_it_goes_on_with() -> None:
    assert chain_of("spice3", "images", None) == ["moco", "spice", "spice3"]
    assert chain_of("spice3", "embeddings", None) == ["spice", "spice3"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neighbours": 41}, r"spice3\.neighbours is 41: of 40 items"),
        ({"batch_size": 8, "labelled": 8}, r"spice3\.labelled is 8 of spice3\.batch_size 8"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(given: dict[str, Any], message: str) -> None:
    refused_in_plan("spice3", given, Facts(40, 3, "embeddings", "cpu", dim=12), message)


blobs = partial(groups_of_vectors, n=90, k=K, apart=1.0, noise=0.5)


@pytest.mark.parametrize("begins", ["scratch", "inherited"])
def test_groups_that_lie_apart_are_found_and_kept(begins: str) -> None:
    x, truth = blobs()
    more = {"spice.epochs": 6, "spice.tries": 1, "spice.repeats": 4, "spice3.epochs": 10, "spice3.begins": begins}
    found = run(x, RunSettings(K, "spice3", overrides=more, device="cpu", calibrate=False))
    labels = found.assignments.probabilities.argmax(1).numpy()
    assert len({(a, b) for a, b in zip(labels, truth, strict=True)}) == K


def test_a_wide_net_can_be_the_backbone() -> None:
    spec = ItemSpec("images", 1, 8, 8)
    torch.manual_seed(0)
    net = Net(build_backbone("wrn-28-1", spec), spec, torch.zeros(1), torch.ones(1), half=False)
    method = replace(SMALL, begins="scratch", at_least=0.5)
    net.add(method.heads(net, K))
    images = torch.rand(N, 1, 8, 8)

    def features(*, half: bool = False, by: nn.Module | None = None, most: int | None = None) -> Tensor:
        return net.eval().backbone(images).detach()

    start(method, net, features, K, torch.Generator().manual_seed(0))
    rows = net.train().mixture.draw(12, torch.Generator().manual_seed(3))
    views = {"weak": images[rows], "strong": images[rows].flip(3)}
    random = torch.Generator().manual_seed(2)
    for losses in method.step(net, batch_of_views(views, index=rows, generator=random)):
        torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.backbone.parameters())


def test_it_predicts_by_the_softmax_of_its_own_head() -> None:
    net = net_of(SMALL).eval()
    p = predict(SMALL, net, DATA)
    assert list(p) == ["softmax"]
    torch.testing.assert_close(p["softmax"], net.classify(DATA).softmax(1))
