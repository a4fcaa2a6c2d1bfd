from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from coterie.algorithms.spectral import SpectralCoordinates, few_copies, leading_vectors, linked, local_graph
from helpers.draws import seeded


def clique(n: int) -> np.ndarray:
    return np.ones((n, n)) - np.eye(n)


@given(st.integers(0, 100), st.integers(6, 25), st.integers(1, 5), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_affinities_are_what_the_definition_says(draw: int, n: int, neighbours: int, scale: int) -> None:
    scale = min(scale, neighbours)
    rows = torch.randn(n, 3, generator=torch.Generator().manual_seed(draw))
    distance = torch.cdist(rows.double(), rows.double()).numpy()
    order = [[j for j in np.argsort(distance[i], kind="stable") if j != i][:neighbours] for i in range(n)]
    sigma = [distance[i, order[i][scale - 1]] for i in range(n)]
    expected = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j and (j in order[i] or i in order[j]):
                expected[i, j] = np.exp(-(distance[i, j] ** 2) / (sigma[i] * sigma[j]))
    graph, scales = local_graph(rows, neighbours, scale)
    np.testing.assert_allclose(scales.numpy(), sigma, rtol=1e-4)
    np.testing.assert_allclose(graph.toarray(), expected, rtol=1e-3, atol=1e-6)


def test_copies_of_an_item_are_as_near_as_can_be() -> None:
    rows = torch.cat([torch.zeros(12, 2), torch.randn(20, 2, generator=seeded()) + 3])
    graph, scales = local_graph(rows, 5, 3)
    assert bool((scales > 0).all())
    assert np.isfinite(graph.toarray()).all()
    assert graph.toarray()[0].max() == 1.0
    assert bool(torch.isfinite(local_graph(torch.zeros(9, 2), 3, 2)[1]).all())


def test_three_cliques_have_three_eigenvalues_of_one_and_rows_that_point_to_them() -> None:
    graph = np.zeros((12, 12))
    for begin in (0, 4, 8):
        graph[begin : begin + 4, begin : begin + 4] = clique(4)
    values, vectors = leading_vectors(csr_array(graph), 4, seeded())
    np.testing.assert_allclose(values, [1, 1, 1, -1 / 3], atol=1e-9)
    rows = vectors[:, :3] / np.linalg.norm(vectors[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(rows @ rows.T, np.kron(np.eye(3), np.ones((4, 4))), atol=1e-9)


def test_the_sparse_solver_finds_what_the_dense_one_does() -> None:
    rows = torch.cat([torch.randn(200, 4, generator=seeded()) + 2 * c for c in range(3)])
    graph, _ = local_graph(rows, 20, 7)
    values, vectors = leading_vectors(graph, 5, seeded())
    degree = graph.sum(1)
    normal = graph.toarray() / np.sqrt(degree[:, None] * degree)
    expected, columns = np.linalg.eigh(normal)
    np.testing.assert_allclose(values, expected[::-1][:5], atol=1e-6)
    space = columns[:, ::-1][:, :5]
    np.testing.assert_allclose(vectors @ vectors.T, space @ space.T, atol=1e-4)


def test_parts_of_a_graph_are_linked_weakly() -> None:
    graph = np.zeros((9, 9))
    for begin in (0, 3, 6):
        graph[begin : begin + 3, begin : begin + 3] = clique(3)
    rows = torch.arange(9.0)[:, None]
    found = linked(csr_array(graph), rows)
    assert connected_components(found, directed=False)[0] == 1
    assert found.nnz == 18 + 4  # two links, both ways
    assert abs(found - found.T).max() == 0
    assert found.max() == 1
    assert found.data.min() == pytest.approx(1e-3)
    assert linked(found, rows) is found
    assert connected_components(linked(csr_array(graph), torch.zeros(9, 1)), directed=False)[0] == 1


def test_landmarks_have_nearly_the_coordinates_of_the_graph_and_new_items_those_of_their_neighbours() -> None:
    rows = torch.cat([torch.randn(100, 3, generator=seeded()) + 6 * c for c in range(3)])
    part = SpectralCoordinates(3, 3, 15, 7)
    part.place(rows, seeded())
    graph = linked(local_graph(rows, 15, 7)[0], rows)
    vectors = leading_vectors(graph, 3, seeded())[1]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert float((part(rows).double().numpy() * expected).sum(1).mean()) > 0.95
    new = part(rows + 0.01)
    torch.testing.assert_close(new.norm(dim=1), torch.ones(300))
    assert float((new * part(rows)).sum(1).mean()) > 0.95


def test_coordinates_do_not_depend_on_the_other_items() -> None:
    rows = torch.randn(80, 20, generator=seeded())
    part = SpectralCoordinates(20, 3, 10, 4)
    part.place(rows, seeded())
    asked = torch.randn(64, 20, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(64, generator=seeded())
    assert torch.equal(part(asked[order]), part(asked)[order])


def test_of_copies_a_few_are_kept_and_all_where_too_little_would_stay() -> None:
    rows = torch.tensor([[0.0, 1], [2, 3], [-0.0, 1], [0, 1], [2, 3], [4, 5]])
    assert few_copies(rows, 2, least=3).tolist() == [True, True, True, False, True, True]
    assert few_copies(rows, 1, least=3).tolist() == [True, True, False, False, False, True]
    assert few_copies(rows, 1, least=4).all()
