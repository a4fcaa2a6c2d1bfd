from __future__ import annotations

import pytest

from coterie.views import ViewSettings
from coterie.views.simclr import simclr_view


def test_half_the_strength_is_the_contrastive_view_as_it_is() -> None:
    common = ViewSettings(blur=0.0)
    own = simclr_view(0.5, 0.0).settings_of(common, ())
    assert own.jitter == pytest.approx(common.jitter)
    assert own == ViewSettings(blur=0.0, jitter=own.jitter)
