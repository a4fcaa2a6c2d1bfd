from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from coterie.contract import Facts, predict, start, views_of
from coterie.methods.spice import (
    SPICE,
    choice_loss,
    double_softmax_loss,
    labels_of,
    log_odds,
    prototype_labels,
    spice_head,
)
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, Features, InputError, ItemSpec
from helpers.batches import batch_of_views
from helpers.vectors import groups_of_vectors
from helpers.waves import wave

SPEC, K, N = ItemSpec("embeddings", dim=70), 3, 30
DATA = torch.randn(N, 70, generator=torch.Generator().manual_seed(0))
SMALL = SPICE(batch_size=N, tries=3, hidden=8, repeats=2, part=9)


def net_of(method: SPICE, *, norm: bool = False) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("mlp", SPEC), SPEC, torch.zeros(70), torch.ones(70), half=False)
    if norm:
        net.backbone.trunk = nn.Sequential(net.backbone.trunk, nn.BatchNorm1d(70))
    net.add(method.heads(net, K))
    start(method, net.eval(), features_of(net), K, torch.Generator().manual_seed(0))
    return net.train()


def features_of(net: Net) -> Features:
    return lambda half=False, by=None, most=None: net.backbone(DATA).detach()


def batch_of(net: Net, *, number: int = 0, per_epoch: int = 7) -> Batch:
    random = torch.Generator().manual_seed(1)
    views = {"weak": DATA.flip(0) + 0.1, "strong": DATA.flip(0) * 1.2}
    return batch_of_views(
        views,
        index=torch.arange(N).flip(0),
        generator=random,
        number=number,
        per_epoch=per_epoch,
        features=features_of(net),
    )


def slow_labels(p: Tensor, places: Tensor, share: float) -> tuple[list[Tensor], list[list[float]]]:
    """Each group's prototype, and how near its items are to it, nearest first, in plain Python."""
    n, k = p.shape
    each, prototypes, nearness = n // k, [], []
    for group in range(k):
        surest = sorted(range(n), key=lambda i, g=group: -float(p[i, g]))[: max(1, int(share * each))]
        prototype = sum(places[i].double() for i in surest) / len(surest)
        prototypes.append(prototype)
        nearness.append(sorted((float(row.double() @ prototype) for row in places), reverse=True)[:each])
    return prototypes, nearness


# Labels


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(5, 40), st.sampled_from([0.1, 0.5, 1.0]))
@example(1, 5, 22, 0.5)  # two items are 1e-8 apart
@settings(max_examples=60, deadline=None)
def test_each_group_labels_the_items_nearest_to_the_mean_of_its_surest(seed: int, k: int, n: int, share: float) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, k, generator=random)
    places = F.normalize(torch.randn(n, 6, generator=random))
    found = prototype_labels(logits, places, share)
    prototypes, nearness = slow_labels(logits.double().softmax(1), places, share)
    assert [len(set(rows)) for rows in found.tolist()] == [n // k] * k
    # Where float32 cannot tell two items apart, either may be taken: what is compared is how near the taken ones are.
    for group, rows in enumerate(found.tolist()):
        taken = sorted((float(places[i].double() @ prototypes[group]) for i in rows), reverse=True)
        assert taken == pytest.approx(nearness[group], abs=1e-6)


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(6, 40))
@settings(max_examples=60, deadline=None)
def test_a_round_gives_every_group_the_same_number_of_labels(seed: int, k: int, n: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, generator=random)
    chosen = prototype_labels(logits, F.normalize(torch.randn(n, 4, generator=random)), 0.5)
    label = labels_of(chosen)
    assert chosen.shape == (k, n // k)
    assert label.bincount(minlength=k).tolist() == [n // k] * k
    assert all(len(set(rows)) == n // k for rows in chosen.tolist())


def test_probabilities_that_round_to_one_do_not_tie() -> None:
    logits = torch.stack([torch.linspace(20.0, 60.0, 12), torch.zeros(12)], dim=1)
    assert bool((logits.softmax(1)[:, 0] == 1).all())
    surest_apart = F.normalize(torch.tensor([[1.0, 0.0]] * 11 + [[0.0, 1.0]]))
    assert 11 in prototype_labels(logits, surest_apart, 1 / 6)[0].tolist()


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.1, 5.0))
@settings(max_examples=40, deadline=None)
def test_the_odds_are_those_of_the_softmax(seed: int, k: int, scale: float) -> None:
    logits = scale * torch.randn(9, k, generator=torch.Generator().manual_seed(seed))
    expected = torch.logit(logits.double().softmax(1))
    torch.testing.assert_close(log_odds(logits).double(), expected, rtol=1e-3, atol=1e-4)


# The loss


@given(st.integers(0, 10_000), st.integers(2, 20), st.floats(0.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_the_loss_lies_within_one_of_its_lowest(seed: int, k: int, scale: float) -> None:
    random = torch.Generator().manual_seed(seed)
    logits, label = scale * torch.randn(9, k, generator=random), torch.randint(k, (9,), generator=random)
    lowest = math.log(1 + (k - 1) / math.e)
    assert lowest - 1e-5 <= float(double_softmax_loss(logits, label)) <= lowest + 1 + 1e-5


@pytest.mark.parametrize(("k", "lowest"), [(10, 1.461), (20, 2.078)])
def test_the_lowest_loss_is_that_of_a_sure_answer(k: int, lowest: float) -> None:
    sure = 60 * torch.eye(k)
    assert float(double_softmax_loss(sure, torch.arange(k))) == pytest.approx(lowest, abs=1e-3)
    worst = double_softmax_loss(sure, torch.arange(k).roll(1))
    assert float(worst) == pytest.approx(math.log(1 + (k - 1) / math.e) + 1, abs=1e-4)


def test_where_all_groups_are_as_likely_the_gradient_is_k_times_smaller_than_that_of_one_softmax() -> None:
    logits, label = torch.zeros(4, 10, requires_grad=True), torch.arange(4)
    (twice,) = torch.autograd.grad(double_softmax_loss(logits, label), logits)
    (once,) = torch.autograd.grad(F.cross_entropy(logits, label), logits)
    torch.testing.assert_close(10 * twice, once)


def test_a_worked_item() -> None:
    assert float(double_softmax_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))) == pytest.approx(0.38317, abs=1e-5)


def test_parity_with_the_authors_labels_and_loss() -> None:
    """`SemHead` of niuchuangnn/SPICE, commit 5eba5383 (6 August 2022), on a CPU: `select_samples` and `loss`."""
    logits, places = wave(43, 5, 1.7, 0.3, 2.0), F.normalize(wave(43, 6, 0.9, 1.1, 1.0))
    chosen = prototype_labels(logits, places, 0.5)
    theirs = [
        [33, 40, 26, 19, 12, 4, 5, 11],
        [7, 0, 14, 21, 28, 36, 35, 29],
        [40, 33, 26, 4, 19, 11, 12, 18],
        [19, 12, 26, 5, 33, 40, 41, 4],
        [32, 25, 39, 18, 11, 4, 3, 10],
    ]
    assert [set(rows) for rows in chosen.tolist()] == [set(rows) for rows in theirs]
    assert float(choice_loss(logits, chosen)) == pytest.approx(1.6309810877, rel=1e-5)
    head: Any = spice_head(6, 8, 5)
    first, *_, last = head
    with torch.no_grad():
        first.weight.copy_(wave(8, 6, 1.3, 0.2, 1.0))
        first.bias.copy_(wave(1, 8, 0.7, 0.4, 0.5)[0])
        last.weight.copy_(wave(5, 8, 2.1, 0.6, 1.0))
        last.bias.copy_(wave(1, 5, 1.1, 0.9, 0.5)[0])
    rows = torch.tensor(theirs)
    loss = double_softmax_loss(head(wave(43, 6, 0.9, 1.1, 1.0)[rows.flatten()]), labels_of(rows))
    assert loss.item() == pytest.approx(1.7510986328, rel=1e-5)
    loss.backward()
    expected = [0.0290481504, -0.0017174737, -0.0122608393, 0.0015465422, 0.0245481618, 0.0015646742, -0.0079850741]
    torch.testing.assert_close(last.weight.grad[0, :7], torch.tensor(expected), atol=1e-6, rtol=1e-4)


# A round


def each_of(net: Net) -> list[Callable[[Tensor], Tensor]]:
    """The heads that are tried, one by one."""
    states = [net.tried.state_of(head) for head in range(3)]
    return [lambda x, own=state: functional_call(net.cluster, own, (x,)) for state in states]


def test_a_round_labels_by_the_weak_view_and_teaches_the_strong_one_in_parts() -> None:
    net = net_of(SMALL)
    batch = batch_of(net)
    with torch.no_grad():
        places = F.normalize(DATA.flip(0))
        chosen = [prototype_labels(head(batch.weak), places, 0.5) for head in each_of(net)]
        random = torch.Generator().manual_seed(1)
        expected = []
        for _ in range(2):
            order = torch.randperm(30, generator=random)
            for part in order.split(9)[:3]:
                each = []
                for head, rows in zip(each_of(net), chosen, strict=True):
                    logits = head(batch.strong[rows.flatten()[part]])
                    each.append(float(double_softmax_loss(logits, part // 10)))
                expected.append(np.mean(each))
    found = [float(losses["prototype"].detach()) for losses in SMALL.step(net, batch)]
    assert found == pytest.approx(expected, rel=1e-5)
    assert float(batch.logged["labelled"]) <= 1


def test_labels_fewer_than_a_part_are_one_step() -> None:
    method = replace(SMALL, part=1000)
    net = net_of(method)
    assert len(list(method.step(net, batch_of(net)))) == 2


@pytest.mark.parametrize("drift", [False, True])
def test_the_backbone_keeps_its_weights_and_its_statistics_unless_they_are_to_drift(drift: bool) -> None:
    method = replace(SMALL, drift=drift)
    net = net_of(method, norm=True)
    before = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    optimiser = method.optimiser(net)
    for losses in method.step(net, batch_of(net)):
        optimiser.zero_grad()
        losses["prototype"].backward()
        optimiser.step()
    changed = {name for name, value in net.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == (
        {"trunk.1.running_mean", "trunk.1.running_var", "trunk.1.num_batches_tracked"} if drift else set()
    )
    assert all(p.grad is not None for p in net.tried.parameters())
    assert all(p.grad is None for p in net.cluster.parameters())


# The choice of a head


def losses_of(net: Net, method: SPICE) -> list[float]:
    with torch.no_grad():
        said = [head(DATA) for head in each_of(net)]
        places = F.normalize(DATA)
        return [float(choice_loss(z, prototype_labels(z, places, method.share))) for z in said]


def test_after_an_epoch_and_not_before_the_head_of_lowest_loss_answers() -> None:
    net = net_of(SMALL)
    first = net.cluster[0].weight.clone()
    for _ in SMALL.step(net, batch_of(net, number=5)):
        pass
    assert torch.equal(net.cluster[0].weight, first)
    for _ in SMALL.step(net, batch_of(net, number=6)):
        pass
    losses = losses_of(net, SMALL)
    best = min(range(3), key=losses.__getitem__)
    assert torch.equal(net.cluster[0].weight, net.tried.state_of(best)["0.weight"])
    assert float(net.lowest.loss) == pytest.approx(losses[best], rel=1e-5)


@pytest.mark.parametrize("kept", ["lowest", "last"])
def test_a_later_epoch_takes_over_only_where_its_loss_is_lower_or_the_last_is_wanted(kept: Any) -> None:
    method = replace(SMALL, kept=kept)
    net = net_of(method)
    first = net.cluster[0].weight.clone()
    net.lowest.loss.fill_(0.0)  # below what any head can have
    for _ in method.step(net, batch_of(net, number=6)):
        pass
    assert torch.equal(net.cluster[0].weight, first) == (kept == "lowest")


def test_the_best_epochs_head_is_in_the_checkpoint() -> None:
    net, again = net_of(SMALL), net_of(SMALL)
    for _ in SMALL.step(net, batch_of(net, number=6)):
        pass
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.lowest.loss, net.lowest.loss)
    assert torch.equal(again.features.rows, net.features.rows)


# Settings and whole runs


def test_views_are_fixmatchs_weak_one_and_scans_strong_one_or_none() -> None:
    weak, strong = views_of(SPICE()).values()
    assert not isinstance(weak.recipe, str)
    assert strong.settings["crop_scale"] == (1.0, 1.0)
    assert {view.recipe for view in views_of(SPICE(distorted=False)).values()} == {"clean"}


def test_a_round_smaller_than_the_number_of_groups_is_refused_or_brought_within() -> None:
    facts = Facts(40, 20, "embeddings", "cpu", dim=12)
    plan = make_plan(RunSettings(n_clusters=20, method="spice", preset="paper"), facts, "data")
    assert plan.method.batch_size == 40
    with pytest.raises(InputError, match=r"spice\.batch_size is 10"):
        make_plan(RunSettings(n_clusters=20, method="spice", overrides={"spice.batch_size": 10}), facts, "data")


blobs = partial(groups_of_vectors, n=90, k=K, apart=1.0, noise=0.5)


def test_groups_that_lie_apart_are_found() -> None:
    x, truth = blobs()
    wanted = RunSettings(
        K, "spice", overrides={"spice.epochs": 6, "spice.tries": 2, "spice.repeats": 4}, device="cpu", calibrate=False
    )
    found = run(x, wanted).assignments.probabilities.argmax(1).numpy()
    assert len({(a, b) for a, b in zip(found, truth, strict=True)}) == K


def test_it_predicts_by_one_softmax_of_the_head_that_answers() -> None:
    net = net_of(SMALL).eval()
    p = predict(SMALL, net, DATA)
    assert list(p) == ["softmax"]
    torch.testing.assert_close(p["softmax"], net.cluster(DATA).softmax(1))
