from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.networks.memory import ItemTable
from coterie.objectives.assignment import (
    divergence,
    label_change_rate,
    renew,
    soft_assign_all,
    soft_assign_t,
    target_distribution,
    target_of,
)


def random_q(n: int, k: int, seed: int = 0) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)).mul(2).softmax(1)


sizes = {"n": st.integers(1, 20), "k": st.integers(2, 6), "seed": st.integers(0, 100)}


@given(**sizes, freedom=st.sampled_from([1.0, 2.5]))
@settings(max_examples=25, deadline=None)
def test_the_soft_assignment_is_students_formula(n: int, k: int, seed: int, freedom: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z, centres = torch.randn(n, 3, generator=generator), torch.randn(k, 3, generator=generator)
    q = soft_assign_t(z, centres, freedom)
    for i in range(n):
        weights = [
            (1 + sum((float(a) - float(b)) ** 2 for a, b in zip(z[i], centre, strict=True)) / freedom)
            ** (-(freedom + 1) / 2)
            for centre in centres
        ]
        assert q[i].tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-4)
    torch.testing.assert_close(soft_assign_all(z, centres, freedom), q)


def test_a_point_far_from_all_centres_has_a_finite_assignment_and_gradient() -> None:
    z = torch.full((1, 2), 1e12, requires_grad=True)
    q = soft_assign_t(z, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    q[0, 0].backward()
    assert q.detach().tolist() == [[0.5, 0.5]]
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())


@given(**sizes)
@settings(max_examples=25, deadline=None)
def test_the_target_is_the_papers_formula_over_all_items(n: int, k: int, seed: int) -> None:
    q = random_q(n, k, seed)
    p = target_distribution(q)
    f = [sum(float(q[i, j]) for i in range(n)) for j in range(k)]
    for i in range(n):
        weights = [float(q[i, j]) ** 2 / f[j] for j in range(k)]
        assert p[i].tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-4)
    torch.testing.assert_close(p.sum(1), torch.ones(n))


def test_uniform_assignments_have_a_uniform_target() -> None:
    torch.testing.assert_close(target_distribution(torch.full((7, 4), 0.25)), torch.full((7, 4), 0.25))


def test_balanced_hard_assignments_are_their_own_target() -> None:
    q = torch.eye(3).repeat(4, 1)
    assert torch.equal(target_distribution(q), q)


def test_a_group_that_nobody_is_in_gives_no_nan() -> None:
    q = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert torch.equal(target_distribution(q), q)


def test_part_of_the_items_get_the_target_that_all_of_them_get_and_not_their_own() -> None:
    q, index = random_q(30, 4), torch.tensor([3, 17, 5])
    table = ItemTable(4)
    table.fill(q)
    torch.testing.assert_close(target_of(table, index), target_distribution(q)[index])
    assert not torch.allclose(target_of(table, index), target_distribution(q[index]), atol=1e-3)


def test_the_target_is_sharper_where_groups_are_equally_large() -> None:
    q = random_q(10, 4)
    q = torch.cat([q.roll(shift, 1) for shift in range(4)])  # every group gets the same sum
    p = target_distribution(q)
    assert bool((p.max(1).values >= q.max(1).values).all())
    assert torch.equal(p.argmax(1), q.argmax(1))


def test_the_divergence_is_that_of_torch() -> None:
    p, q = random_q(6, 5, 1), random_q(6, 5, 2)
    expected = torch.nn.functional.kl_div(q.log(), p, reduction="none").sum(1)
    torch.testing.assert_close(divergence(p, q), expected)
    torch.testing.assert_close(divergence(p, p), torch.zeros(6), atol=1e-6, rtol=0)
    hard = torch.tensor([[1.0, 0.0]])
    assert divergence(hard, torch.tensor([[0.25, 0.75]])).tolist() == pytest.approx([math.log(4)])


def test_the_share_of_changed_labels() -> None:
    assert label_change_rate(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.25
    table = ItemTable(3)
    q = torch.eye(3)
    assert renew(table, q) is None
    assert renew(table, q[[0, 1, 1]]) == pytest.approx(1 / 3)
    assert renew(table, q[[0, 1, 1]]) == 0.0
