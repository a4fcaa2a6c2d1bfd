"""How the embedding of a run's items is kept."""

from __future__ import annotations

import numpy as np
import pytest

from coterie.prediction.embedding import _halves


@pytest.mark.parametrize(
    ("size", "offset", "half"),
    [(1.0, 0.0, True), (100.0, 50.0, True), (1e5, 0.0, False), (1e-7, 0.0, False), (0.1, 1000.0, False)],
)
def test_half_precision_is_taken_where_it_keeps_the_neighbours(size: float, offset: float, half: bool) -> None:
    """Values around 1000 that differ by 0.1 are the same in float16, and values of 1e-7 are 0 or 6e-8."""
    values = (size * np.random.default_rng(0).normal(size=(200, 4)) + offset).astype(np.float32)
    assert _halves(values) == half
    if half:
        apart = np.linalg.norm(values[:, None] - values, axis=2)
        kept = values.astype(np.float16).astype(np.float32)
        assert np.abs(np.linalg.norm(kept[:, None] - kept, axis=2) - apart).max() < 0.02 * apart.mean()
