from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.contract import Facts, begin_epoch, check, predict, views_of
from coterie.methods.tcl import NONE, TCL, answer, of_one_label, renewed
from coterie.networks.net import Net
from coterie.objectives.contrastive import nt_xent
from coterie.objectives.pseudo_labels import class_weights
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, EpochStart, InputError
from coterie.views import ViewSettings
from helpers.batches import batch_of_views
from helpers.two_views import DIM, SIZE, Fixed, blobs, net_of, touched, waves

METHOD = TCL(epochs=6, boost_epochs=2, batch_size=SIZE, hidden=7, projector_out=5)
PER_EPOCH = 3
LABELS = torch.tensor([0, 1, NONE, 0, 1, NONE, 0, 2])


def batch_in(epoch: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {name: torch.randn(SIZE, DIM, generator=generator) for name in ("weak", "strong", "clean")}
    return batch_of_views(
        views,
        index=torch.arange(SIZE) + 2,
        progress=epoch / METHOD.epochs,
        generator=generator,
        number=epoch * PER_EPOCH,
        per_epoch=PER_EPOCH,
    )


def net_with_labels(method: TCL = METHOD, k: int = 3) -> Net:
    net = net_of(method, k)
    method.start(net, lambda: torch.zeros(20, 1), k, torch.Generator())
    return net


# Labels


def slow_renewal(
    old: list[int], p: list[list[float]], share: float, threshold: float, at_least: float = 0.0
) -> list[int]:
    """One item at a time: candidates of each group, then what is kept, then what is lost."""
    groups = [row.index(max(row)) for row in p]
    candidates, kept = [NONE] * len(p), set()
    for group in set(groups):
        members = sorted((i for i, own in enumerate(groups) if own == group), key=lambda i: -max(p[i]))
        for i in members[: math.ceil(len(p) / len(p[0]) * share)]:
            candidates[i] = group
        kept |= set(members[: max(1, int(at_least * len(members)))] if at_least else [])
    label = [own if own != NONE else candidate for own, candidate in zip(old, candidates, strict=True)]
    return [
        own if max(row) >= threshold or i in kept else NONE for i, (row, own) in enumerate(zip(p, label, strict=True))
    ]


@given(
    st.integers(0, 10_000), st.integers(2, 5), st.floats(0.1, 1.0), st.floats(0.3, 0.95), st.sampled_from([0.2, 0.5])
)
@settings(deadline=None, max_examples=30)
def test_labels_are_renewed_by_the_rule(seed: int, k: int, share: float, threshold: float, at_least: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = (3 * torch.randn(12, k, generator=generator)).softmax(1)
    old = torch.randint(-1, k, (12,), generator=generator)
    label = renewed(old, p, share, threshold)
    assert label.tolist() == slow_renewal(old.tolist(), p.tolist(), share, threshold)
    assert bool((p.max(1).values[label != NONE] >= threshold).all())
    assert torch.equal(renewed(label, p, 1e-9, threshold)[label != NONE], label[label != NONE])
    held = renewed(old, p, share, threshold, at_least)
    assert held.tolist() == slow_renewal(old.tolist(), p.tolist(), share, threshold, at_least)


def test_a_group_that_is_unsure_of_its_items_has_labels_where_some_of_each_group_keep_theirs() -> None:
    p = (4 * torch.eye(3).repeat(4, 1)).softmax(1)
    p[2::3] = (torch.eye(3)[2] * torch.tensor([[1.0], [1.1], [1.2], [1.3]])).softmax(1)
    old = torch.full((12,), NONE)
    assert set(renewed(old, p, 1.0, 0.9).tolist()) == {0, 1, NONE}
    held = renewed(old, p, 1.0, 0.9, 0.25)
    assert held.tolist() == [0, 1, NONE, 0, 1, NONE, 0, 1, NONE, 0, 1, 2]


def test_labels_are_those_of_the_authors() -> None:
    """`InstanceLossBoost.generate_pseudo_labels` of Yunfan-Li/Twin-Contrastive-Learning at 00bc855."""
    p = (6 * waves(12, 3, start=0.4)).softmax(1)
    old = torch.tensor([-1, -1, -1, 2, -1, -1, 0, -1, -1, 1, -1, -1])
    assert renewed(old, p, 0.5, 0.9).tolist() == [-1, -1, -1, -1, -1, -1, -1, 0, 2, -1, 0, 2]
    assert renewed(old, p, 0.25, 0.5).tolist() == [-1, -1, -1, 2, -1, -1, 0, -1, -1, 1, 0, 2]
    assert renewed(old, p, 1.0, 0.99).tolist() == [-1] * 12


def test_the_first_labels_are_collected_when_the_boosting_begins_and_no_earlier() -> None:
    method, net, features = replace(METHOD, threshold=0.4, share=1.0), net_with_labels(), blobs()[:20]
    with torch.no_grad():
        net.cluster[-1].weight.mul_(100)  # surer than at the start
    for number, expected in ((3, False), (4, True)):
        begin_epoch(method, net, EpochStart(number, lambda **_: features, torch.Generator().manual_seed(0)))
        assert bool((net.labels.rows != NONE).any()) is expected
    p = answer(net, features)
    found = net.labels.rows[:, 0] != NONE
    assert torch.equal(net.labels.rows[found, 0], p.argmax(1)[found])
    assert bool((p.max(1).values[found] >= 0.4).all())


def test_a_batch_renews_the_labels_of_its_own_items_by_the_undistorted_views() -> None:
    method, net, batch = replace(METHOD, threshold=0.3, share=1.0), net_with_labels(), batch_in(4)
    twin = net_with_labels()
    twin.backbone.eval()
    with torch.no_grad():
        expected = renewed(torch.full((SIZE,), NONE), answer(twin, twin.backbone(batch.clean)), 1.0, 0.3)
    statistics = net.backbone.trunk.norm.running_mean.clone()
    assert torch.equal(method.said(net, batch.clean), answer(twin, twin.backbone(batch.clean)))
    assert torch.equal(net.backbone.trunk.norm.running_mean, statistics)
    next(method.step(net, batch))
    assert net.backbone.training
    assert torch.equal(net.labels.rows[2 : SIZE + 2, 0], expected)
    assert bool((net.labels.rows[:2] == NONE).all())


# The losses


def losses_of(epoch: int, z: tuple[Tensor, Tensor], logits: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The losses before the boosting where the heads answer so: the strong view's logits first, as they are asked."""
    net = net_with_labels(k=logits[0].shape[1])
    net.project, net.cluster = Fixed(*z), Fixed(*logits)
    return dict(next(METHOD.step(net, batch_in(epoch))))


def test_before_the_boosting_it_is_cc_with_a_weak_and_a_strong_view() -> None:
    """`InstanceLoss` and `ClusterLoss` there, on rows of length 1."""
    losses = losses_of(
        3, (waves(6, 5, start=0), waves(6, 5, start=1)), (2 * waves(6, 4, start=3), 2 * waves(6, 4, start=2))
    )
    assert losses["instance"].item() == pytest.approx(1.9338650703430176, rel=1e-5)
    assert (losses["group"] + losses["balance"]).item() == pytest.approx(1.8276422023773193, rel=1e-5)


def test_the_boosted_losses_and_gradients_are_those_of_the_authors() -> None:
    """`InstanceLossBoost` and `ClusterLossBoost` there, in one process."""
    z = [waves(8, 5, start=start).requires_grad_() for start in (0, 1)]
    logits = (2 * waves(8, 4, start=3)).requires_grad_()
    losses = METHOD.boosted(batch_in(4), z, logits, LABELS)
    slopes = torch.autograd.grad(losses["instance"] + losses["label"], [z[0], logits])
    assert losses["instance"].item() == pytest.approx(2.2316715717315674, rel=1e-5)
    assert losses["label"].item() == pytest.approx(1.7883139848709106, rel=1e-5)
    expected = [
        [-0.08140096813440323, -0.06439069658517838, -0.017096472904086113],
        [-0.03664742782711983, 0.01946074515581131, 0.008371787145733833],
    ]
    for slope, values in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope[0, :3], torch.tensor(values), rtol=1e-3, atol=1e-6)


def test_without_labels_the_items_contrast_is_that_before_the_boosting() -> None:
    z = [waves(8, 5, start=start) for start in (0, 1)]
    batch = batch_in(4)
    losses = METHOD.boosted(batch, z, waves(8, 4, start=3), torch.full((8,), NONE))
    assert set(losses) == {"instance"}
    torch.testing.assert_close(losses["instance"], nt_xent(*z, 0.5))
    assert float(batch.logged["labelled"]) == 0
    alike = METHOD.boosted(batch, z, waves(8, 4, start=3), torch.zeros(8, dtype=torch.int64))
    assert alike["instance"].item() == pytest.approx(0, abs=1e-6)  # nobody is left to be repelled
    pairs = of_one_label(LABELS)
    assert pairs[0].tolist() == [True, False, False, True, False, False, True, False]
    assert not bool(pairs[2].any())


def test_the_weighted_loss_is_the_mean_over_groups_of_their_means() -> None:
    logits, label = 2 * waves(9, 4, start=1), torch.tensor([0, 0, 0, 0, 0, 2, 2, 3, 0])
    found = F.cross_entropy(logits, label, class_weights(label, 4))
    each = F.cross_entropy(logits, label, reduction="none")
    torch.testing.assert_close(found, torch.stack([each[label == group].mean() for group in (0, 2, 3)]).mean())


@pytest.mark.parametrize(("epoch", "names"), [(3, {"instance", "group", "balance"}), (4, {"instance", "label"})])
def test_everything_is_trained_before_and_in_the_boosting(epoch: int, names: set[str]) -> None:
    net = net_with_labels()
    (losses,) = replace(METHOD, threshold=0.0, share=1.0).step(net, batch_in(epoch))
    assert set(losses) == names
    torch.stack(list(losses.values())).sum().backward()
    assert touched(net) == {"backbone", "shared", "project", "cluster"}
    (group,) = METHOD.optimiser(net).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in net.parameters()}


def test_the_cluster_heads_weights_begin_small() -> None:
    net = net_of(TCL(hidden=200), 10)
    assert net.cluster[2].weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_answer_is_the_softmax_of_the_cluster_head() -> None:
    net = net_with_labels().eval()
    torch.testing.assert_close(predict(METHOD, net, blobs())["softmax"], answer(net, blobs()))


# Settings and views


def test_a_boosting_without_an_epoch_before_it_is_refused_or_shortened() -> None:
    facts = Facts(n=5000, k=10, kind="images", device="cuda", side=32)
    with pytest.raises(InputError, match=r"tcl\.boost_epochs is 6 of tcl\.epochs 6"):
        check(replace(METHOD, boost_epochs=6), facts)
    plan = make_plan(RunSettings(n_clusters=10, method="tcl", preset="paper", epochs=50), facts, "photos")
    assert plan.method.boost_epochs == 49
    assert any("boost_epochs 200 -> 49" in note for note in plan.notes)


def test_the_weak_view_is_milder_than_simclrs_and_the_strong_one_is_not_cropped() -> None:
    views = {name: view.settings_of(ViewSettings(), ()) for name, view in views_of(TCL()).items()}
    assert (views["weak"].crop_scale, views["weak"].jitter) == ((0.2, 1.0), (0.4, 0.4, 0.2, 0.1))
    assert views["weak"].blur == 1
    assert views["strong"].crop_scale == (1, 1)
