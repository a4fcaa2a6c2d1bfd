from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.contract import Facts, Pass, passes_of, predict, views_of
from coterie.methods.cc import CC, INSTANCE
from coterie.networks.net import Net
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch
from coterie.views import ViewSettings
from helpers.two_views import SIZE, Fixed, batch_at, blobs, net_of, touched, waves

METHOD = CC(batch_size=SIZE, hidden=7, projector_out=5)


def losses_of(z: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor], method: CC = METHOD) -> dict[str, Tensor]:
    """The losses where the heads answer so for the two views."""
    net = net_of(method)
    net.project, net.cluster = Fixed(*z), Fixed(*logits)
    return dict(next(method.step(net, batch_at())))


def slow_losses(net: Net, batch: Batch, method: CC) -> dict[str, float]:
    """Eq. 1 to 7, one item and one group at a time."""
    with torch.no_grad():
        features = [net.backbone(view) for view in (batch.one, batch.two)]
        items = torch.cat([net.project(own) for own in features])
        p, q = (net.cluster(own).softmax(1) for own in features)
    share = [one.mean(0) for one in (p, q)]
    return {
        "instance": slow_contrast(items, method.temperature),
        "group": slow_contrast(torch.cat([p.T, q.T]), method.group_temperature),
        "balance": sum(math.log(3) + float((s * s.log()).sum()) for s in share),
    }


def slow_contrast(views: Tensor, temperature: float) -> float:
    total, half = 0.0, len(views) // 2
    for i, own in enumerate(views):
        said = [math.exp(float(F.cosine_similarity(own, other, dim=0)) / temperature) for other in views]
        total -= math.log(said[(i + half) % len(views)] / (sum(said) - said[i]))
    return total / len(views)


def test_the_losses_are_the_formulas() -> None:
    expected = slow_losses(net_of(METHOD), batch_at(), METHOD)
    steps = METHOD.step(net_of(METHOD), batch_at())
    found = {name: loss.item() for name, loss in next(steps).items()}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert next(steps, None) is None


def test_loss_and_gradient_are_those_of_the_authors() -> None:
    """`InstanceLoss` and `ClusterLoss` of Yunfan-Li/Contrastive-Clustering at 61daba8, on rows of length 1."""
    z, logits = (waves(6, 5, start=0), waves(6, 5, start=1)), ((2 * waves(6, 4, start=2)), (2 * waves(6, 4, start=3)))
    first = logits[0].requires_grad_()
    losses = losses_of(z, (first, logits[1]))
    (slope,) = torch.autograd.grad(losses["group"] + losses["balance"], first)
    assert losses["instance"].item() == pytest.approx(1.9338650703430176, rel=1e-5)
    assert (losses["group"] + losses["balance"]).item() == pytest.approx(1.8276422023773193, rel=1e-5)
    expected = [-0.002665389096364379, -0.0011716736480593681, 0.0022155707702040672]
    torch.testing.assert_close(slope[0, :3], torch.tensor(expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("k", [10, 20])
def test_sure_balanced_and_uniform_answers(k: int) -> None:
    z = (waves(2 * k, 5, start=0),) * 2
    sure = 1e4 * F.one_hot(torch.arange(2 * k) % k, k).float()
    losses = losses_of(z, (sure, sure))
    assert losses["balance"].item() == pytest.approx(0, abs=1e-5)
    assert losses["group"].item() == pytest.approx(math.log(1 + (2 * k - 2) / math.e), rel=1e-5)  # 2.031, 2.707
    losses = losses_of(z, (torch.zeros_like(sure),) * 2)
    assert losses["balance"].item() == pytest.approx(0, abs=1e-5)
    assert losses["group"].item() == pytest.approx(math.log(2 * k - 1), rel=1e-5)
    one_group = torch.zeros_like(sure)
    one_group[:, 0] = 1e4
    assert losses_of(z, (one_group, one_group))["balance"].item() == pytest.approx(2 * math.log(k), rel=1e-4)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=8)
def test_names_of_groups_and_the_order_of_views_do_not_matter(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z, p, q = torch.randn(3, SIZE, 4, generator=generator)
    order = torch.randperm(4, generator=generator)
    expected = losses_of((z, p), (p, q))
    for found in (losses_of((p, z), (q, p)), losses_of((z, p), (p[:, order], q[:, order]))):
        torch.testing.assert_close(found, expected)
    assert expected["balance"].item() >= -1e-6


def test_everything_is_trained_and_the_heads_have_no_normalisation() -> None:
    net = net_of(METHOD)
    for losses in METHOD.step(net, batch_at()):
        torch.stack(list(losses.values())).sum().backward()
    assert touched(net) == {"backbone", "project", "cluster"}
    assert not [part for part in [*net.project, *net.cluster] if hasattr(part, "running_mean")]
    (group,) = METHOD.optimiser(net).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in net.parameters()}
    assert (group["lr"], group["weight_decay"]) == (3e-4, 0)


def test_what_is_logged_tells_of_the_first_view() -> None:
    net, batch = net_of(METHOD), batch_at()
    next(METHOD.step(net, batch))
    with torch.no_grad():
        p, q = (net.cluster(net.backbone(view)).softmax(1) for view in (batch.one, batch.two))
    confidence, label = p.max(1)
    torch.testing.assert_close(batch.logged["confidence"], confidence.mean())
    torch.testing.assert_close(batch.logged["agreement"], (label == q.argmax(1)).float().mean())
    assert batch.counts is not None
    assert batch.counts.tolist() == label.bincount(minlength=3).tolist()


def test_the_answer_is_the_softmax_of_the_cluster_head() -> None:
    net = net_of(METHOD).eval()
    torch.testing.assert_close(predict(METHOD, net, blobs())["softmax"], net.cluster(blobs()).softmax(1))


# Unlabelled images, views, presets


def test_unlabelled_images_teach_the_items_contrast_alone() -> None:
    method = replace(METHOD, unlabelled=True)
    assert passes_of(METHOD) == (Pass(),)
    assert passes_of(method) == (Pass(INSTANCE, extra=True), Pass())
    net, batch = net_of(method), batch_at()
    batch.pass_name = INSTANCE
    (losses,) = method.step(net, batch)
    assert set(losses) == {"instance"}
    losses["instance"].backward()
    assert touched(net) == {"backbone", "project"}
    assert batch.counts is None


def test_the_views_are_distorted_as_strongly_as_the_settings_say() -> None:
    for view in views_of(CC(jitter=1.0, blur=0.5)).values():
        own = view.settings_of(ViewSettings(), ())
        assert own.jitter == pytest.approx((0.8, 0.8, 0.8, 0.2))
        assert own.blur == 0.5


def test_it_can_start_from_moco_as_in_cdcs_comparison() -> None:
    facts = Facts(n=5000, k=10, kind="images", device="cuda", side=32)
    plan = make_plan(RunSettings(n_clusters=10, method="cc", pretrain="moco"), facts, "photos")
    assert [type(stage).__name__ for stage in plan.stages] == ["MoCo", "CC"]
