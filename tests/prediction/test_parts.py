"""Parts that are proposed for a group: K-means', and how clear they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, silhouette_score

from coterie.prediction import parts
from coterie.prediction.parts import propose_parts
from coterie.types import InputError


def test_parts_have_the_silhouette_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many members a sample is looked at."""
    points, truth = make_blobs(150, n_features=4, centers=3, cluster_std=2, random_state=0)
    points = points.astype(np.float32)
    found, silhouette = propose_parts(points, 3, 0)
    assert adjusted_rand_score(truth, found) > 0.9
    assert silhouette == pytest.approx(silhouette_score(points, found))
    monkeypatch.setattr(parts, "SAMPLE", 100)
    of_some = propose_parts(points, 3, 0)[1]
    assert of_some != silhouette
    assert of_some == pytest.approx(silhouette, abs=0.05)


def test_parts_of_one_member_each_have_no_silhouette() -> None:
    assert propose_parts(np.eye(4, dtype=np.float32), 4, 0)[1] == 0


@pytest.mark.parametrize(
    ("members", "k", "said"),
    [
        (3, 2, "A group of 3 is not split"),
        (20, 13, "in 2 to 12 parts"),
        (5, 6, "in 2 to 5 parts"),
        (20, 4, "fewer than 4"),
    ],
)
def test_what_cannot_be_split(members: int, k: int, said: str) -> None:
    points = (np.arange(members) % 3)[:, None].astype(np.float32)
    with pytest.raises(InputError, match=said):
        propose_parts(points, k, 0)
