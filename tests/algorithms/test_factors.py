from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.decomposition import NMF
from torch import Tensor

from coterie.algorithms.factors import codes_of, divergence, laplacian, locality, neighbour_graph, smooth_factors


def problem(n: int = 40, m: int = 9, r: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Non-negative rows with zeros among them, and codes and parts to begin with."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(n, m, generator=generator) * (torch.rand(n, m, generator=generator) > 0.3)
    return rows, torch.rand(n, r, generator=generator) + 0.1, torch.rand(m, r, generator=generator) + 0.1


def test_the_divergence_is_the_sum_over_all_values() -> None:
    rows, codes, parts = problem(5, 4, 2)
    total = 0.0
    for i in range(5):
        for j in range(4):
            x, y = float(rows[i, j]), float((codes[i] * parts[j]).sum())
            total += (x * math.log(x / y) if x > 0 else 0.0) - x + y
    assert divergence(rows, codes, parts) == pytest.approx(total, rel=1e-5)


def test_the_neighbours_term_is_half_the_sum_over_pairs() -> None:
    rows, codes, _ = problem(12)
    graph = neighbour_graph(rows, 3)
    dense = graph.toarray()
    assert (dense == dense.T).all()
    assert set(dense.ravel()) == {0.0, 1.0}
    assert dense.diagonal().sum() == 0
    assert (dense.sum(1) >= 3).all()
    v = codes.double().numpy()
    total = 0.0
    for j in range(12):
        for i in range(12):
            apart = (v[j] * np.log(v[j] / v[i])).sum() + (v[i] * np.log(v[i] / v[j])).sum()
            total += 0.5 * dense[j, i] * apart
    assert locality(codes, graph) == pytest.approx(total, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), weight=st.floats(0, 50))
def test_the_objective_falls(seed: int, weight: float) -> None:
    """Without neighbours it never rises; with them the paper's system is an approximation, good to a hair."""
    rows, codes, parts = problem(seed=seed)
    graph = neighbour_graph(rows, 3)

    def objective(v: Tensor, u: Tensor) -> float:
        return divergence(rows, v, u) + weight * locality(v, graph)

    hair = 1e-5 if weight == 0 else 2e-3
    first = before = objective(codes, parts)
    for _ in range(4):
        codes, parts = smooth_factors(rows, codes, parts, graph, weight, 1, 0.0)
        now = objective(codes, parts)
        assert now <= before + hair * abs(before)
        before = now
    assert before < first
    assert (codes > 0).all()
    assert (parts >= 0).all()


def test_without_neighbours_they_are_scikit_learns_updates() -> None:
    rows, codes, parts = problem()
    none = csr_array((40, 40))
    mine = smooth_factors(rows, codes, parts, none, 0.0, 1, 0.0)
    theirs = NMF(3, init="custom", solver="mu", beta_loss="kullback-leibler", max_iter=1, tol=0.0)
    v = theirs.fit_transform(rows.numpy(), W=codes.numpy().copy(), H=parts.T.contiguous().numpy().copy())
    np.testing.assert_allclose(mine[0].numpy(), v, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(mine[1].numpy(), theirs.components_.T, rtol=2e-4, atol=1e-6)


def test_a_heavy_weight_makes_neighbours_alike() -> None:
    rows, codes, parts = problem()
    graph = neighbour_graph(rows, 5)

    def unlike(weight: float) -> float:
        found, _ = smooth_factors(rows, codes, parts, graph, weight, 30, 0.0)
        shares = found / found.sum(1, keepdim=True)
        return float(np.abs(laplacian(graph) @ shares.double().numpy()).mean())

    assert unlike(100.0) < 0.5 * unlike(0.0)


def test_codes_give_the_rows_back_and_each_is_by_itself() -> None:
    _, codes, parts = problem(30, 12, 3)
    rows = codes @ parts.T
    found = codes_of(rows, parts, 3000)
    torch.testing.assert_close(found @ parts.T, rows, rtol=1e-3, atol=1e-3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(codes_of(rows[order], parts, 50), codes_of(rows, parts, 50)[order])


def test_a_row_of_zeros_has_no_part() -> None:
    _, _, parts = problem()
    assert codes_of(torch.zeros(2, 9), parts, 10).abs().max() == 0
