from __future__ import annotations

import pytest
import torch

from coterie.views import Draw, ViewSettings
from coterie.views.drift import Drift
from coterie.views.warps import turn_and_shift

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


def test_shifts_turns_zooms_and_levels_go_either_way() -> None:
    """Of two ramps the middle tells the shift in pixels, their slopes the turn and the zoom."""
    rows = torch.arange(21.0).expand(400, 21, 21)
    ramps = torch.stack([rows, rows.mT], 1)  # of x and of y
    places = torch.meshgrid(torch.tensor([10, 14]), torch.tensor([10, 14]), indexing="ij")

    def drawn(turn: float, shift: float, zoom: float) -> torch.Tensor:
        draw = Draw(torch.Generator().manual_seed(1), 400, None)
        return turn_and_shift(ramps, draw, ViewSettings(turn=turn, shift=shift), zoom)[:, :, *places]

    def spread(values: torch.Tensor, most: float) -> bool:
        low, high, middle = float(values.min()), float(values.max()), float(values.mean())
        return -most <= low + 1e-4 < -0.95 * most and 0.95 * most < high - 1e-4 <= most and abs(middle) < 0.15 * most

    moved = drawn(0.0, 0.1, 0.0)[:, :, 0, 0] - 10
    assert spread(moved[:, 0], 2.1)
    assert spread(moved[:, 1], 2.1)
    assert abs(float(torch.corrcoef(moved.T)[0, 1])) < 0.2
    turned = drawn(20.0, 0.0, 0.0)[:, 1]
    assert spread(torch.asin((turned[:, 0, 1] - turned[:, 0, 0]) / 4).rad2deg(), 20.0)
    zoomed = drawn(0.0, 0.0, 0.3)[:, 0]
    assert spread(4 / (zoomed[:, 0, 1] - zoomed[:, 0, 0]) - 1, 0.3)
    grey = torch.tensor([0.0, 0.5, 1.0]).expand(400, 1, 1, 3).repeat(1, 1, 3, 1)
    still = ViewSettings(turn=0.0, shift=0.0, flip=0.0)
    levelled = Drift(zoom=0.0, level=0.1, factor=1.0)(grey, Draw(torch.Generator().manual_seed(1), 400, None), still)
    assert spread(levelled[:, 0, 1, 1] - 0.5, 0.1)
