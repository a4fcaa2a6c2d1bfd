"""The spaces in which finished runs are ranked: the items that each model keeps, and whose features they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from coterie import Clusterer
from coterie.evaluation.trust import Space, trust
from coterie.trusting import trust_models


def test_each_run_is_ranked_on_the_kept_items_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that no run trained are nobody's, and count once; a run is not ranked in those that it trained."""
    monkeypatch.setattr("coterie.prediction.bank.ROWS", 50)
    points, truth = make_blobs(90, n_features=70, centers=3, cluster_std=6, random_state=0)
    fitted = Clusterer(3, "kmeans", random_state=0, calibrate=False).fit(points.astype(np.float32))
    bank = fitted.model_.bank
    assert bank is not None
    assert bank.rows is not None
    assert len(bank.rows) == 50 != bank.rows.max() + 1
    own = replace(
        bank,
        features=bank.features[:, :40],
        rows=bank.rows.flip(0),
        means=bank.means[:, :40],
        whitening=bank.whitening[:0, :40],
    )
    models = [fitted.model_, fitted.model_, replace(fitted.model_, backbone="mlp", bank=own)]
    names, labels = ["a", "b", "c"], [fitted.labels_, np.where(np.arange(90) < 30, 0, truth), truth]
    # Wide features are compared by their angles. Distances in all principal components are those of the features.
    units = [(one.features / one.features.norm(dim=1, keepdim=True)).numpy() for one in (bank, own)]
    spaces = [Space(units[0], bank.rows.numpy()), Space(units[1], own.rows.numpy(), home=2)]
    expected, found = trust(names, labels, 3, spaces), trust_models(names, labels, models, 3)
    for run, other in zip(found.runs, expected.runs, strict=True):
        assert (run.silhouette, run.neighbours) == pytest.approx((other.silhouette, other.neighbours), abs=1e-3)
        assert run.rank == pytest.approx(other.rank, abs=0.3)
    assert found.runs[0].silhouette != pytest.approx(found.runs[1].silhouette)
    older = [replace(model, bank=replace(model.bank, rows=None)) for model in models]  # do not say which items
    assert np.isnan(trust_models(names, labels, older, 3).runs[0].silhouette)
