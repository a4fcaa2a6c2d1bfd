from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coterie.algorithms.neighbours import neighbour_lists
from coterie.contract import Facts, passes_of, predict, start, views_of
from coterie.methods.scan import SCAN, choice_loss, disagreement, heads_of
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.objectives.information import negative_mean_entropy
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import Batch, Features, ItemSpec
from helpers.batches import batch_of_views
from helpers.refused import refused_in_plan
from helpers.vectors import groups_of_vectors
from helpers.waves import wave

SPEC, K, N = ItemSpec("embeddings", dim=70), 3, 30
DATA = torch.randn(N, 70, generator=torch.Generator().manual_seed(0))


def net_of(method: SCAN) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("mlp", SPEC), SPEC, torch.zeros(70), torch.ones(70), half=False)
    net.add(method.heads(net, K))
    start(method, net, features_of(net), K, torch.Generator().manual_seed(0))
    return net.train()


def features_of(net: Net) -> Features:
    return lambda half=False, by=None, most=None: net.backbone(DATA).detach()


def batch_of(net: Net, *, number: int = 0, per_epoch: int = 1) -> Batch:
    drawn = {"anchor": DATA[:12], "neighbour": DATA[12:24]}
    return batch_of_views(
        drawn, generator=torch.Generator().manual_seed(1), number=number, per_epoch=per_epoch, features=features_of(net)
    )


def one_hot(labels: Any, k: int, sure: float = 60.0) -> Tensor:
    """Logits of answers that are sure of these labels."""
    return sure * nn.functional.one_hot(torch.as_tensor(labels), k).float()


# Neighbours


def test_neighbours_are_those_of_the_features_at_the_start_and_are_brought_as_partners() -> None:
    method = SCAN(neighbours=4)
    net = net_of(method)
    assert net.neighbours.rows.dtype == torch.int32
    assert torch.equal(net.neighbours.rows.long(), neighbour_lists(DATA, 4))  # the mlp begins as the identity
    (only,) = passes_of(method)
    assert only.partners == {"neighbour": "neighbours"}
    assert {name: view.of for name, view in views_of(method).items()} == {"anchor": "", "neighbour": "neighbour"}


# The loss


def slow_losses(own: Tensor, others: Tensor) -> tuple[float, float]:
    """Disagreement and negative entropy in plain Python."""
    p, q = own.double().softmax(1).tolist(), others.double().softmax(1).tolist()
    apart = sum(-math.log(sum(a * b for a, b in zip(x, y, strict=True))) for x, y in zip(p, q, strict=True)) / len(p)
    mean = [sum(column) / len(p) for column in zip(*p, strict=True)]
    return apart, sum(share * math.log(share) for share in mean)


def test_the_loss_is_disagreement_less_five_times_the_entropy_of_the_items_alone() -> None:
    method = SCAN(neighbours=4)
    net = net_of(method)
    batch = batch_of(net)
    own, others = (net.cluster(net.backbone(view)) for view in (batch.anchor, batch.neighbour))
    apart, unequal = slow_losses(own, others)
    (losses,) = method.step(net, batch)
    assert losses["consistency"].item() == pytest.approx(apart, rel=1e-5)
    assert losses["entropy"].item() == pytest.approx(5 * unequal, rel=1e-5)


def test_losses_are_summed_over_heads() -> None:
    method = SCAN(neighbours=4, tries=3)
    net = net_of(method)
    batch = batch_of(net, number=0, per_epoch=7)
    pairs = [tuple(head(net.backbone(view)) for view in (batch.anchor, batch.neighbour)) for head in heads_of(net)]
    slow = [slow_losses(own, others) for own, others in pairs]
    assert len({round(apart, 4) for apart, _ in slow}) == 3  # drawn apart
    (losses,) = method.step(net, batch)
    assert losses["consistency"].item() == pytest.approx(sum(apart for apart, _ in slow), rel=1e-5)
    assert losses["entropy"].item() == pytest.approx(5 * sum(unequal for _, unequal in slow), rel=1e-5)


def test_a_worked_pair() -> None:
    own, others = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.6, 0.4]]).log()
    assert float(disagreement(own, others)) == pytest.approx(-math.log(0.56))
    both = torch.cat([own, others])
    assert float(negative_mean_entropy(both)) == pytest.approx(-0.610864, abs=1e-6)


@pytest.mark.parametrize("k", [2, 10])
def test_the_lowest_loss_is_that_of_sure_equal_and_balanced_answers(k: int) -> None:
    best = one_hot(torch.arange(3 * k) % k, k)
    lowest = disagreement(best, best).mean() + 5 * negative_mean_entropy(best)
    assert float(lowest) == pytest.approx(-5 * math.log(k), abs=1e-5)  # -11.513 for 10


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_no_answers_have_a_lower_loss_and_disagreement_is_symmetric_and_positive(seed: int, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    own, others = (8 * torch.randn(9, k, generator=random) for _ in range(2))
    apart = disagreement(own, others)
    assert bool((apart >= -1e-6).all())
    torch.testing.assert_close(apart, disagreement(others, own))
    assert float(apart.mean() + 5 * negative_mean_entropy(own)) >= -5 * math.log(k) - 1e-4


def test_a_pair_that_is_surely_apart_still_has_a_gradient() -> None:
    own = one_hot([0], 3, 500.0).requires_grad_()
    loss = disagreement(own, one_hot([1], 3, 500.0)).sum()
    assert loss.item() == pytest.approx(500.0 - math.log(2), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, own)
    assert bool(gradient.isfinite().all())
    assert float(gradient[0, 0]) > 0.4


def test_parity_with_the_authors_loss() -> None:
    """`SCANLoss(5.0)` of wvangansbeke/Unsupervised-Classification, commit 952ec31e (28 February 2023), on a CPU."""
    own, others = wave(12, 5, 1.7, 0.3, 2.0).requires_grad_(), wave(12, 5, 2.3, 1.1, 2.0).requires_grad_()
    apart, unequal = disagreement(own, others).mean(), negative_mean_entropy(own)
    assert apart.item() == pytest.approx(1.8132675886, rel=1e-5)
    assert -unequal.item() == pytest.approx(1.5968685150, rel=1e-5)
    loss = apart + 5 * unequal
    assert loss.item() == pytest.approx(-6.1710748672, rel=1e-5)
    loss.backward()
    first = [-0.0558608882, 0.0516609587, 0.0033120227, -0.0054023094, 0.0062902500]
    torch.testing.assert_close(own.grad[0], torch.tensor(first), atol=1e-6, rtol=1e-4)  # type: ignore[index]
    first = [-0.0179969594, -0.0146177716, 0.0013694740, 0.0345252827, -0.0032800236]
    torch.testing.assert_close(others.grad[0], torch.tensor(first), atol=1e-6, rtol=1e-4)  # type: ignore[index]


# The choice of a head


def test_the_choice_looks_at_every_listed_pair_with_the_entropy_weighed_by_one() -> None:
    logits, lists = wave(12, 5, 1.7, 0.3, 2.0), (torch.arange(12)[:, None] + torch.arange(4)) % 12
    p = logits.softmax(1).double()
    pairs = [-math.log(float(p[i] @ p[j])) for i in range(12) for j in lists[i].tolist()]
    mean = p.mean(0)
    expected = sum(pairs) / len(pairs) + float((mean * mean.log()).sum())
    assert float(choice_loss(logits, lists)) == pytest.approx(expected, abs=1e-5)
    assert float(choice_loss(logits, lists)) == pytest.approx(0.0361298, abs=1e-5)  # their `scan_evaluate`


def test_the_head_of_lowest_loss_answers_after_the_last_batch_and_not_before() -> None:
    method = SCAN(neighbours=4, tries=3, epochs=2)
    net = net_of(method)
    with torch.no_grad():
        losses = [float(choice_loss(head(DATA), net.neighbours.rows)) for head in heads_of(net)]
    best = min(range(3), key=losses.__getitem__)
    assert best != 0
    wanted, first = heads_of(net)[best].state_dict()["weight"].clone(), net.cluster.weight.clone()
    for _ in method.step(net, batch_of(net, number=12, per_epoch=7)):
        pass
    assert torch.equal(net.cluster.weight, first)
    for _ in method.step(net, batch_of(net, number=13, per_epoch=7)):
        pass
    assert torch.equal(net.cluster.weight, wanted)
    assert net.cluster.training


# What is trained


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_leaves_the_backbone_and_its_statistics_alone(head: Any, frozen: bool) -> None:
    method = SCAN(neighbours=4, tries=2, head=head, hidden=8, frozen=frozen)
    net = net_of(method)
    net.backbone.trunk = nn.Sequential(net.backbone.trunk, nn.BatchNorm1d(70))
    before = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    optimiser = method.optimiser(net)
    for losses in method.step(net, batch_of(net, per_epoch=7)):
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    after = net.backbone.state_dict()
    assert frozen == all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(p.grad is not None for head in heads_of(net) for p in head.parameters())


def test_the_solvers_are_those_of_the_papers_two_settings() -> None:
    adam, sgd = (m.optimiser(net_of(m)) for m in (SCAN(neighbours=4), SCAN(neighbours=4, solver="sgd", frozen=True)))
    assert isinstance(adam, torch.optim.Adam)
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (1e-4, 1e-4)
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["momentum"] == 0.9
    assert len(sgd.param_groups[0]["params"]) == 2


def test_the_strong_view_cuts_nothing_off() -> None:
    for view in views_of(SCAN()).values():
        assert view.recipe == "strong"
        assert view.settings["crop_scale"] == (1.0, 1.0)
    assert {view.recipe for view in views_of(SCAN(distortion="none")).values()} == {"clean"}


# Settings and whole runs


def test_more_neighbours_than_other_items_are_refused_before_training() -> None:
    facts = Facts(40, 3, "embeddings", "cpu", dim=12)
    refused_in_plan("scan", {"neighbours": 40}, facts, r"scan\.neighbours is 40: of 40 items each has at most 39")


blobs = partial(groups_of_vectors, n=120, k=K, apart=1.0, noise=0.5)


@pytest.mark.parametrize("more", [{}, {"scan.frozen": True}, {"scan.head": "mlp", "scan.hidden": 16}])
def test_groups_that_lie_apart_are_found(more: dict[str, Any]) -> None:
    x, truth = blobs()
    wanted = RunSettings(K, "scan", overrides={"scan.epochs": 30, **more}, device="cpu", calibrate=False)
    found = run(x, wanted).assignments.probabilities.argmax(1).numpy()
    assert len({(a, b) for a, b in zip(found, truth, strict=True)}) == K


def test_it_predicts_by_the_softmax_of_the_chosen_head() -> None:
    method = SCAN(neighbours=4, tries=3)
    net = net_of(method).eval()
    p = predict(method, net, DATA)
    assert list(p) == ["softmax"]
    torch.testing.assert_close(p["softmax"], net.cluster(DATA).softmax(1))
