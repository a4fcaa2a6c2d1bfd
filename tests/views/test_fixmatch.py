"""FixMatch's views: where pixels go, and that they are grey in the hole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from coterie.views.draw import Draw
from coterie.views.fixmatch import GREY, STRONG, WEAK, weak_photo, with_hole
from coterie.views.settings import ViewSettings
from coterie.views.warps import pad_and_crop


def draw(n: int, seed: int = 1) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), n)


@pytest.mark.parametrize("margin", [0, 1, 4])
def test_every_window_is_cut_out_of_the_image_with_its_black_border(margin: int) -> None:
    images = torch.rand(40, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    found = pad_and_crop(images, draw(40), margin)
    places = set()
    for image, window in zip(images, found, strict=True):
        large = F.pad(image, [margin] * 4)
        fits = [
            (top, left)
            for top in range(2 * margin + 1)
            for left in range(2 * margin + 1)
            if torch.equal(large[:, top : top + 9, left : left + 7], window)
        ]
        assert len(fits) == 1
        places |= set(fits)
    assert {top for top, _ in places} == set(range(2 * margin + 1))


def test_the_weak_view_flips_and_shifts_and_changes_no_pixel() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 8, 8] = 0.7
    found = weak_photo(image.repeat(200, 1, 1, 1), draw(200), ViewSettings())
    assert found.unique().tolist() == pytest.approx([0.0, 0.7])
    assert bool((found.flatten(1).sum(1) > 0.6).all())
    columns = found.sum((0, 1, 2)).nonzero().flatten()
    assert (int(columns.min()), int(columns.max())) == (3, 12)  # 8 and its mirror image 7, four either way
    still = weak_photo(image, draw(1), ViewSettings(flip=0.0))
    assert float(still.sum()) == pytest.approx(0.7)


def test_the_hole_is_grey_and_at_most_half_of_the_side() -> None:
    found = with_hole(torch.ones(300, 3, 12, 12), draw(300))
    hole = (found - GREY).abs() < 1e-6
    torch.testing.assert_close(found[~hole], torch.ones(int((~hole).sum())))
    sides = hole[:, 0].any(2).sum(1)
    assert 4 <= int(sides.max()) <= 6
    assert int(sides.min()) == 0


@pytest.mark.parametrize("family", ["photo", "glyph", "vector"])
def test_there_is_a_view_for_every_family_which_two_halves_make_as_one(family: str) -> None:
    shape = (12, 70) if family == "vector" else (12, 1, 16, 16)
    items = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for recipes in (WEAK, STRONG):
        whole = recipes[family](items, draw(12), ViewSettings(vector_mix=0.0))  # type: ignore[index]
        assert whole.shape == items.shape
        assert not torch.equal(whole, items)
        if family != "vector":
            rows = torch.arange(6, 12)
            half = Draw(torch.Generator().manual_seed(1), 12, rows)
            part = recipes[family](items[rows], half, ViewSettings())  # type: ignore[index]
            torch.testing.assert_close(part, whole[rows])
