from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from coterie.networks.components import Components


@pytest.mark.parametrize(("n", "width"), [(200, 12), (30, 50)], ids=["more items", "more features"])
def test_components_are_scikit_learns_divided_by_the_root_of_their_deviation(n, width):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(n, width)) * np.linspace(3, 0.5, width) + 7).astype(np.float32)
    placed = Components(width, 4)
    placed.place(torch.from_numpy(rows))
    wanted = PCA(4).fit_transform(rows.astype(np.float64))
    wanted = wanted / np.sqrt(wanted.std(0))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = placed(torch.from_numpy(rows)).numpy()
    signs = np.sign((found * wanted).sum(0))
    np.testing.assert_allclose(found * signs, wanted, atol=1e-4)


def test_what_does_not_vary_counts_for_nothing():
    rows = torch.zeros(30, 5)
    rows[:, 2] = torch.arange(30.0)
    placed = Components(5, 3)
    placed.place(rows)
    found = placed(rows)
    assert found.isfinite().all()
    assert (found[:, 1:].abs() < 1e-6).all()
    placed.place(torch.ones(30, 5))
    assert (placed(torch.ones(30, 5)) == 0).all()


def test_fewer_items_than_components_have_one_direction_less_than_items():
    rows = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    placed = Components(40, 20)
    placed.place(rows)
    assert placed.directions.any(0).tolist() == [True] * 5 + [False] * 15
    spread = (rows - placed.mean) @ placed.directions
    apart = spread[:, :5].T @ spread[:, :5]
    assert torch.allclose(apart, apart.diagonal().diag(), atol=1e-3)  # they do not vary together


def test_more_components_than_features_are_all_of_them():
    assert Components(3, 128).directions.shape == (3, 3)
