"""What the methods have in common that learn from two views: BYOL and SimSiam; ProPos and CoNR after BYOL."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.contract import Pass, passes_of, predict
from coterie.methods.byol import BYOL
from coterie.methods.conr import CoNR
from coterie.methods.propos import ProPos
from coterie.methods.simsiam import SimSiam
from helpers.two_views import DIM, SIZE, batch_at, blobs, grouped, net_of, touched

SMALL: dict[str, Any] = {"batch_size": SIZE, "projector_hidden": 7, "projector_out": 5, "predictor_hidden": 6}
FIRST = [BYOL(**SMALL), SimSiam(**{**SMALL, "predictor_hidden": 4})]
PROPOS, CONR = ProPos(warm_up=0.0, noise=0.0, **SMALL), CoNR(neighbours=3, lists=4, passed_on=2, **SMALL)
K = 3


def name_of(method: object) -> str:
    return type(method).__name__


@pytest.mark.parametrize("method", FIRST, ids=name_of)
def test_each_view_has_batch_statistics_of_its_own(method: BYOL | SimSiam) -> None:
    net = net_of(method)
    for _ in method.step(net, batch_at()):
        pass
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
    # BYOL: 2 backbones, 2 projectors, 1 predictor; SimSiam: backbone, 3 of the projector, predictor.
    assert [int(norm.num_batches_tracked) for norm in norms] == [2] * 5


@pytest.mark.parametrize("method", FIRST, ids=name_of)
def test_the_groups_are_k_means_on_the_features_of_the_net_that_learns(method: BYOL | SimSiam) -> None:
    net, features = net_of(method), blobs()
    method.finish(net, lambda: features, K, torch.Generator().manual_seed(3))
    p = predict(method, net, features)["kmeans"]
    torch.testing.assert_close(p.sum(1), torch.ones(60))
    found = p.argmax(1).view(20, K)
    assert bool((found == found[0]).all())
    assert len(set(found[0].tolist())) == K


@pytest.mark.parametrize("method", FIRST, ids=name_of)
def test_unlabelled_images_beside_take_part(method: BYOL | SimSiam) -> None:
    assert passes_of(method) == (Pass(extra=True),)


@pytest.mark.parametrize(
    ("method", "step"),
    # Of CoNR's teacher, 0.996 to 1 along a cosine, at four fifths of it.
    [(PROPOS, 0.004), (CONR, 0.004 * (math.cos(0.8 * math.pi) + 1) / 2)],
    ids=["ProPos", "CoNR"],
)
def test_no_gradient_reaches_the_teacher_and_it_follows_after_the_step(method: ProPos | CoNR, step: float) -> None:
    net = grouped(method)
    before = [p.clone() for p in net.teacher.parameters()]
    for losses in method.step(net, batch_at()):
        torch.stack(list(dict(losses).values())).sum().backward()
        with torch.no_grad():
            net.backbone.trunk.linear.weight.add_(1.0)
        assert all(map(torch.equal, before, net.teacher.parameters()))
    assert touched(net) == {"backbone", "project", "predict"}
    moved = (net.teacher.backbone.trunk.linear.weight - before[0]).mean()
    assert float(moved) == pytest.approx(step, rel=2e-3)


@pytest.mark.parametrize("method", [PROPOS, CONR], ids=name_of)
def test_the_answer_is_the_teachers_by_direction(method: ProPos | CoNR) -> None:
    net, x = grouped(method), 3 * torch.randn(90, DIM, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        net.backbone.trunk.linear.weight.add_(1.0)

    def features(by: nn.Module) -> Tensor:
        net.eval()
        rows = by(x)
        net.train()  # as it is after the last epoch
        return rows

    method.finish(net, features, K, torch.Generator().manual_seed(3))  # type: ignore[arg-type]
    net.eval()
    torch.testing.assert_close(net.backbone(x), net.teacher.backbone(x))
    p = predict(method, net, net.backbone(x))["kmeans"]
    unit = F.normalize(net.teacher.project(net.teacher.backbone(x)))
    torch.testing.assert_close(net.answer.centres.norm(dim=1), torch.ones(K))
    assert torch.equal(p.argmax(1), (unit @ net.answer.centres.T).argmax(1))
    assert len(p.argmax(1).unique()) == K
