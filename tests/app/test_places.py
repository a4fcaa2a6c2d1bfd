"""Where items lie on the map that have no place of their own."""

from __future__ import annotations

import numpy as np
import pytest

from coterie.app.places import NEAREST, _by_neighbours


@pytest.mark.parametrize("offset", [0.0, 3e4])
def test_items_come_to_their_nearest_neighbours_wherever_the_features_lie(offset: float) -> None:
    """Ten features that differ by about 1; all of them far from 0, too, as of a net without a norm."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(300, 10)) + offset).astype(np.float32)
    placed, others = np.arange(200), np.arange(200, 300)
    xy = rng.random((200, 2)).astype(np.float32)
    differences = features[others][:, None].astype(np.float64) - features[placed].astype(np.float64)
    nearest = (differences**2).sum(axis=2).argsort(axis=1)[:, :NEAREST]
    np.testing.assert_allclose(_by_neighbours(features, placed, xy, others), xy[nearest].mean(axis=1), atol=1e-6)
