from __future__ import annotations

import pytest
import torch

from coterie.views import Draw, ViewSettings
from coterie.views.drift import Drift

IMAGES = torch.rand(40, 3, 9, 12, generator=torch.Generator().manual_seed(0))
STILL = ViewSettings(turn=0.0, shift=0.0, flip=0.0)


def drawn(drift: Drift, settings: ViewSettings, rows: torch.Tensor | None = None) -> torch.Tensor:
    draw = Draw(torch.Generator().manual_seed(1), len(IMAGES), rows)
    return drift(IMAGES if rows is None else IMAGES[rows], draw, settings)


def test_without_amounts_it_is_the_image_times_the_factor() -> None:
    torch.testing.assert_close(drawn(Drift(zoom=0.0, level=0.0), STILL), 0.95 * IMAGES)


def test_a_level_is_added_to_all_pixels_within_the_images_own_range() -> None:
    changed = drawn(Drift(zoom=0.0, level=0.1, factor=1.0), STILL)
    lowest, highest = IMAGES.amin((1, 2, 3), keepdim=True), IMAGES.amax((1, 2, 3), keepdim=True)
    assert bool(((changed >= lowest - 1e-6) & (changed <= highest + 1e-6)).all())
    for before, after in zip(IMAGES, changed, strict=True):
        free = (after > before.min() + 1e-4) & (after < before.max() - 1e-4)
        moved = (after - before)[free]
        assert float(moved.max() - moved.min()) < 1e-4
        assert abs(float(moved[0])) <= 0.1 + 1e-6


def test_half_are_mirrored() -> None:
    changed = drawn(Drift(zoom=0.0, level=0.0, factor=1.0), ViewSettings(turn=0.0, shift=0.0, flip=0.5))
    mirrored = (changed - IMAGES.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    same = (changed - IMAGES).abs().amax((1, 2, 3)) < 1e-5
    assert bool((mirrored ^ same).all())
    assert 8 < int(mirrored.sum()) < 32


@pytest.mark.parametrize("rows", [torch.arange(20), torch.arange(20, 40)])
def test_a_process_sees_its_rows_of_what_one_would(rows: torch.Tensor) -> None:
    torch.testing.assert_close(drawn(Drift(), ViewSettings(), rows), drawn(Drift(), ViewSettings())[rows])
