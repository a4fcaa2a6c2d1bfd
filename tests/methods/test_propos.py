from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coterie.contract import Facts, passes_of, views_of
from coterie.methods.propos import ProPos, prototypes, scattering
from coterie.networks.net import Net
from coterie.training.plan import RunSettings, make_plan
from coterie.types import Batch, EpochStart
from helpers.batches import batch_of_views
from helpers.two_views import DIM, LABELS, SIZE, batch_at, grouped, net_of, slow_distances, waves

SMALL: dict[str, Any] = {"batch_size": SIZE, "projector_hidden": 7, "projector_out": 5, "predictor_hidden": 6}
METHOD = ProPos(warm_up=0.0, noise=0.0, **SMALL)


def losses_of(method: ProPos, net: Net, batch: Batch | None = None) -> dict[str, Tensor]:
    return dict(next(iter(method.step(net, batch or batch_at()))))


# The scattering


def slow_scattering(q: Tensor, k: Tensor, labels: list[int], temperature: float) -> float:
    """Prototypes as normalised means and the softmax, one group at a time."""
    there = sorted(set(labels))

    def centre(rows: Tensor, group: int) -> Tensor:
        mean = torch.stack([row / row.norm() for row, label in zip(rows, labels, strict=True) if label == group]).mean(
            0
        )
        return mean / mean.norm()

    total = 0.0
    for group in there:
        own = math.exp(float(centre(q, group) @ centre(k, group)) / temperature)
        others = sum(
            math.exp(float(centre(q, group) @ centre(q, other)) / temperature) for other in there if other != group
        )
        total -= math.log(own / (own + others))
    return total / len(there)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 0, 1, 2, 3, 1], [0, 1, 1, 3, 0, 1, 3, 3, 1], [2] * 9])
def test_the_scattering_is_the_formula_with_absent_groups_left_out(labels: list[int]) -> None:
    q, k = waves(9, 5, start=0.3), waves(9, 5, start=2.0)
    given_labels = torch.tensor(labels)
    found = scattering(prototypes(F.normalize(q), given_labels), prototypes(F.normalize(k), given_labels), 0.5)
    assert found.item() == pytest.approx(slow_scattering(q, k, labels, 0.5), abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "loss", "gradient", "tolerance"),
    [
        ([0, 1, 2, 3, 0, 1, 2, 3, 1], 1.7151002883911133, [0.00163791934, 0.00089002046, -0.00027643680], 1e-5),
        # Here a group is absent, which has a logit of -10 there and none here.
        ([0, 1, 1, 3, 0, 1, 3, 3, 1], 1.1891021728515625, [-0.04575727135, -0.02486422472, 0.00772285461], 1e-4),
    ],
)
def test_parity_with_the_authors_loss(labels: list[int], loss: float, gradient: list[float], tolerance: float) -> None:
    """`compute_centers`, `compute_cluster_loss` of Hzzone/ProPos, commit cc35d8ca (12 April 2023), on a CPU."""
    q, k, given_labels = waves(9, 5, start=0.3).requires_grad_(), waves(9, 5, start=2.0), torch.tensor(labels)
    found = scattering(prototypes(F.normalize(q), given_labels), prototypes(F.normalize(k), given_labels), 0.5)
    assert found.item() == pytest.approx(loss, abs=tolerance)
    (own,) = torch.autograd.grad(found, q)
    torch.testing.assert_close(own[0, :3], torch.tensor(gradient), atol=1e-5, rtol=1e-3)


def test_goldens_of_orthogonal_prototypes_and_of_a_simplex() -> None:
    eye = torch.eye(10)
    assert scattering(eye, eye, 0.5).item() == pytest.approx(0.797, abs=1e-3)
    simplex = F.normalize(eye - 0.1)
    assert scattering(simplex, simplex, 0.5).item() == pytest.approx(0.681, abs=1e-3)


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(deadline=None, max_examples=25)
def test_prototypes_have_length_one_and_labels_are_names_only(seed: int, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    rows = F.normalize(torch.randn(12, 4, generator=random))
    labels, renamed = torch.randint(k, (12,), generator=random), torch.randperm(k, generator=random)
    own = prototypes(rows, labels)
    assert len(own) == len(labels.unique())
    torch.testing.assert_close(own.norm(dim=1), torch.ones(len(own)))
    others = prototypes(F.normalize(rows + 0.3), labels)
    again = [prototypes(x, renamed[labels]) for x in (rows, F.normalize(rows + 0.3))]
    torch.testing.assert_close(scattering(own, others, 0.5), scattering(*again, 0.5), atol=1e-5, rtol=1e-5)


# The step


def test_without_noise_the_alignment_is_that_of_byol_halved() -> None:
    assert losses_of(METHOD, grouped(METHOD))["alignment"].item() == pytest.approx(
        0.5 * slow_distances(grouped(METHOD)), rel=1e-4
    )


def test_the_scattering_is_that_of_projections_and_targets_in_both_directions() -> None:
    net, batch = grouped(METHOD), batch_at()
    with torch.no_grad():
        own = [net.project(net.backbone(view)) for view in (batch.one, batch.two)]
        targets = [net.teacher.project(net.teacher.backbone(view)) for view in (batch.one, batch.two)]
    each = [slow_scattering(own[a], targets[b], LABELS.tolist(), 0.5) for a, b in ((0, 1), (1, 0))]
    found = losses_of(METHOD, grouped(METHOD))["scattering"].item()
    assert found == pytest.approx(0.1 * sum(each) / 2, rel=1e-4)


def test_the_warm_up_has_no_scattering_and_no_noise() -> None:
    method = ProPos(epochs=4, warm_up=0.5, noise=10.0, **SMALL)
    net = grouped(method)
    assert losses_of(method, net).keys() == {"alignment"}
    assert losses_of(method, grouped(method))["alignment"].item() == pytest.approx(0.5 * slow_distances(net), rel=1e-3)
    assert [method.warms_up(epoch) for epoch in range(4)] == [True, True, False, False]
    assert [ProPos().warms_up(epoch) for epoch in (49, 50)] == [True, False]


def test_noise_goes_before_the_predictor_alone() -> None:
    quiet, noisy = METHOD, ProPos(warm_up=0.0, noise=1.0, **SMALL)
    first, second = losses_of(quiet, grouped(quiet)), losses_of(noisy, grouped(noisy))
    assert abs(first["alignment"].item() - second["alignment"].item()) > 1e-4
    assert first["scattering"].item() == second["scattering"].item()


def test_views_in_one_pass_share_their_batch_statistics() -> None:
    joined = ProPos(warm_up=0.0, joined=True, **SMALL)
    for method, passes in ((METHOD, 2), (joined, 1)):
        net = grouped(method)
        losses_of(method, net)
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
        assert [int(norm.num_batches_tracked) for norm in norms] == [passes] * 5
    one = batch_at().one
    same = batch_of_views({"one": one, "two": one})
    quiet = ProPos(warm_up=0.0, joined=True, noise=0.0, **SMALL)
    apart, together = losses_of(METHOD, grouped(METHOD), same), losses_of(quiet, grouped(quiet), same)
    for name, value in apart.items():  # views that are one another have the same statistics together
        torch.testing.assert_close(value, together[name], atol=1e-5, rtol=1e-4)


def test_rates_are_the_papers() -> None:
    encoder, predictor = METHOD.optimiser(grouped(METHOD)).param_groups
    assert (encoder["lr"], predictor["lr"]) == (pytest.approx(0.05 * SIZE / 256), pytest.approx(0.5 * SIZE / 256))
    assert encoder["weight_decay"] == predictor["weight_decay"] == 5e-4
    assert [ProPos().rate(p) for p in (0.0, 0.05)] == [0.0, 1.0]
    assert ProPos().rate(1.0) == pytest.approx(0.00616, abs=1e-5)


# Epochs


def start_of(number: int, asked: list[nn.Module]) -> EpochStart:
    def features(*, half: bool = False, by: nn.Module | None = None, most: int | None = None) -> Tensor:
        assert by is not None
        asked.append(by)
        return by.eval()(torch.randn(40, DIM, generator=torch.Generator().manual_seed(5)))

    return EpochStart(number, features, torch.Generator().manual_seed(2))


def test_each_epoch_after_the_warm_up_begins_with_the_teachers_groups() -> None:
    method = ProPos(epochs=4, warm_up=0.5, **SMALL)
    net, asked = net_of(method), list[nn.Module]()
    for number in range(3):
        method.begin_epoch(net, start_of(number, asked))
        assert len(asked) == max(0, number - 1)
    assert list(asked[0]) == [net.teacher.backbone, net.teacher.project]  # type: ignore[call-overload]
    assert len(net.groups.labels.rows) == 40


def test_balanced_epochs_draw_from_groups_that_are_there_from_the_first() -> None:
    method = ProPos(epochs=4, warm_up=0.5, balanced=True, **SMALL)
    net, asked = net_of(method), list[nn.Module]()
    method.begin_epoch(net, start_of(0, asked))
    assert len(asked) == 1
    (only,) = passes_of(method)
    assert only.sample == "groups"
    assert passes_of(METHOD)[0].sample is None


# The answer


def test_published_rows_and_views() -> None:
    facts = Facts(n=60_000, k=10, kind="images", device="cuda", side=32)
    plan = make_plan(RunSettings(n_clusters=10, method="propos", preset="paper:cifar10"), facts, "photos")
    assert plan.method == ProPos()
    plan = make_plan(RunSettings(n_clusters=10, method="propos", preset="paper:imagenet-dogs"), facts, "photos")
    assert plan.method == ProPos(batch_size=256, momentum_end=1.0, joined=True, balanced=True, blur=0.5)
    assert all(view.settings == {"blur": 0.0} for view in views_of(ProPos()).values())
