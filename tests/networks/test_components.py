from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA

from coterie.networks.components import Components


def test_components_are_scikit_learns_divided_by_the_root_of_their_deviation():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(200, 12)) * np.linspace(3, 0.5, 12) + 7).astype(np.float32)
    placed = Components(12, 4)
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


def test_more_components_than_features_are_all_of_them():
    assert Components(3, 128).directions.shape == (3, 3)
