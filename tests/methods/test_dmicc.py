from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.contract import predict, views_of
from coterie.methods.dmicc import DMICC, LEAST, dependence, feature_cosines, joint
from coterie.networks.net import Net
from coterie.types import Batch
from coterie.views import ViewSettings
from helpers.two_views import SIZE, Fixed, batch_at, blobs, net_of, touched, waves

METHOD = DMICC(batch_size=SIZE, projector_out=5, restarts=2)


def net_with_bank(method: DMICC = METHOD, n: int = 12) -> Net:
    net = net_of(method)
    method.start(net, lambda: torch.zeros(n, 1), 3, torch.Generator().manual_seed(0))
    return net


def batch_of(index: list[int]) -> Batch:
    batch = batch_at()
    batch.index = torch.tensor(index)
    batch.views = {name: view[: len(index)] for name, view in batch.views.items()}
    return batch


def rows_of(start: float) -> Tensor:
    return F.normalize(waves(9, 5, start=start))


# The authors' code: Li-Hyn/DMICC at d154ec2


def test_the_feature_term_is_that_of_the_authors() -> None:
    """`Loss_FMI` there."""
    rows = rows_of(0.3).requires_grad_()
    found = dependence(feature_cosines(rows), METHOD.feature_balance) / 25
    found.backward()
    assert found.item() == pytest.approx(-5.023531436920166, rel=1e-5)
    assert rows.grad is not None
    expected = [-4.642526149749756, -1.140868902206421, -0.00034546852111816406, -1.6519911289215088, -4.88733434677124]
    torch.testing.assert_close(rows.grad[0], torch.tensor(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("shift", "feature", "view"), [(0.6, -15.773897171020508, 35.16937255859375)])
def test_both_terms_are_those_of_the_authors_where_nearly_all_is_positive(
    shift: float, feature: float, view: float
) -> None:
    one, two = (waves(9, 5, start=start) + shift for start in (0.3, 0.8))
    assert dependence(feature_cosines(one), 11.0).item() / 25 == pytest.approx(feature, rel=1e-5)
    assert replace(METHOD, view_term="released").view_loss(one, two).item() == pytest.approx(view, rel=1e-5)


def test_the_released_view_term_is_that_of_the_authors() -> None:
    """`crossview_contrastive_Loss` there, whose lambda is -10."""
    one, two = rows_of(0.3).requires_grad_(), rows_of(0.8)
    found = replace(METHOD, view_term="released").view_loss(one, two)
    found.backward()
    assert found.item() == pytest.approx(50.73667907714844, rel=1e-5)
    assert one.grad is not None
    expected = [-1.817232608795166, -1.025025486946106, -1.9740853309631348, -3.200855255126953, -6.670273303985596]
    torch.testing.assert_close(one.grad[0], torch.tensor(expected), rtol=1e-3, atol=1e-4)


def test_the_loss_of_items_and_the_bank_are_those_of_the_authors() -> None:
    """`NonParametricClassifier` there, temperature 1, momentum 0.5, and cross-entropy."""
    method, net = replace(METHOD, feature_weight=0.0, view_weight=0.0), net_with_bank()
    net.bank.fill(F.normalize(waves(12, 5, start=2.0)))
    one = F.normalize(waves(4, 5, start=0.3)).requires_grad_()
    net.project = Fixed(one, one.detach())
    before = net.bank.rows.clone()
    steps = method.step(net, batch_of([3, 7, 0, 11]))
    losses = next(steps)
    assert list(losses) == ["instance"]  # without the two terms it is instance discrimination
    assert losses["instance"].item() == pytest.approx(2.539414405822754, rel=1e-5)
    assert torch.equal(net.bank.rows, before)
    losses["instance"].backward()
    assert list(steps) == []
    expected = [
        [0.07834742963314056, 0.4884284734725952, 0.6687939763069153, 0.5346152186393738, 0.14899857342243195],
        [-0.30475157499313354, -0.612138569355011, -0.6316272616386414, -0.35405170917510986, 0.09003978967666626],
    ]
    torch.testing.assert_close(net.bank.rows[[3, 11]], torch.tensor(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.bank.rows.norm(dim=1), torch.ones(12))
    others = [1, 2, 4, 5, 6, 8, 9, 10]
    assert torch.equal(net.bank.rows[others], before[others])


# The terms


def slow_dependence(table: list[list[float]], balance: float) -> float:
    d, total = len(table), 0.0
    for i in range(d):
        for j in range(d):
            row, column = sum(table[i]), sum(table[m][j] for m in range(d))
            own = max(table[i][j], LEAST)
            logs = math.log(own) - balance * math.log(max(row, LEAST)) - balance * math.log(max(column, LEAST))
            total += own * logs
    return total


@given(st.integers(0, 10_000), st.integers(2, 5), st.floats(-10, 11))
@settings(deadline=None, max_examples=20)
def test_the_dependence_is_the_formula(seed: int, d: int, balance: float) -> None:
    table = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert dependence(table, balance).item() == pytest.approx(slow_dependence(table.tolist(), balance), rel=1e-6)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=10)
def test_the_joint_of_softmaxed_views_is_a_symmetric_table_of_probabilities(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, two = (torch.randn(7, 4, generator=generator).softmax(1) for _ in range(2))
    found = joint(one, two)
    torch.testing.assert_close(found, found.T)
    assert found.min() >= 0
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert dependence(found, 1.0).item() >= -1e-6  # a mutual information


@pytest.mark.parametrize("used", [1, 2, 4])
def test_sure_views_that_agree_inform_by_the_features_that_are_used(used: int) -> None:
    sure = F.one_hot(torch.arange(8) % used, 5).float()
    assert dependence(joint(sure, sure), 1.0).item() == pytest.approx(math.log(used), abs=1e-5)


def test_the_signs_of_the_view_term() -> None:
    even, one_sided = F.one_hot(torch.arange(8) % 4, 4).float(), F.one_hot(torch.zeros(8, dtype=torch.int64), 4).float()

    def loss(term: Any, rows: Tensor) -> float:
        return replace(METHOD, view_term=term, temperature=0.05).view_loss(rows, rows).item()

    for term in ("softmax", "signed"):
        assert loss(term, even) < loss(term, one_sided)  # all features are to be used
    assert loss("released", even) > loss("released", one_sided)  # the slip: as few as can be


# The method


def test_everything_is_trained_by_each_term() -> None:
    for weights in ({"feature_weight": 1.0}, {"view_weight": 1.0}, {}):
        method, net = replace(METHOD, **weights), net_with_bank()
        losses = next(method.step(net, batch_of([1, 3, 5, 7, 9, 11, 0, 2])))
        assert set(losses) == {"instance", "feature", "view"}
        torch.stack(list(losses.values())).sum().backward()
        assert touched(net) == {"backbone", "project"}
    (group,) = METHOD.optimiser(net).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in net.parameters()}


def test_the_rate_is_halved_ten_times() -> None:
    assert [METHOD.rate(epoch / 5000) for epoch in (0, 499, 500, 949, 950, 4549, 4550)] == [
        1.0,
        1.0,
        0.5,
        0.5,
        0.25,
        0.5**9,
        0.5**10,
    ]


def test_the_answer_is_the_nearest_centre_of_the_banks_groups() -> None:
    net, features = net_with_bank(n=60).eval(), blobs()
    with torch.no_grad():
        rows = F.normalize(net.project(features))
    net.bank.fill(rows)
    METHOD.finish(net, lambda: features, 3, torch.Generator().manual_seed(0))
    p = predict(METHOD, net, features)["kmeans"]
    assert torch.equal(p.argmax(1), torch.cdist(rows, net.groups.centres).argmin(1))
    assert len(p.argmax(1).unique()) == 3


def test_the_views_are_simclrs_without_blur() -> None:
    for view in views_of(METHOD).values():
        own = view.settings_of(ViewSettings(), ())
        assert own.jitter == pytest.approx((0.4, 0.4, 0.4, 0.1))
        assert own.blur == 0
