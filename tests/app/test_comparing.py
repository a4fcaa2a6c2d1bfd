"""How far the items of two groups lie among each other."""

from __future__ import annotations

import numpy as np
import pytest

from coterie.app.comparing import _across


@pytest.mark.parametrize("offset", [0.0, 3e4])
def test_groups_are_apart_or_mixed_wherever_their_features_lie(offset: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 10)) + offset
    members = [np.arange(200), np.arange(200, 400)]
    mixed = _across(features.astype(np.float32), members)
    features[200:] += 6
    apart = _across(features.astype(np.float32), members)
    assert mixed == pytest.approx(1, abs=0.1)
    assert apart == 0
