"""FixMatch's two views, which SPICE has too: a shift and a flip, and three operations with a hole before them.

Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020, as in the
code that SPICE builds on. Photographs alone: digits, letters and vectors have the weak and strong views of `recipes`.
"""

from __future__ import annotations

from torch import Tensor

from coterie.types import Family
from coterie.views.cutout import random_cutout
from coterie.views.draw import Draw
from coterie.views.policy import random_operations
from coterie.views.recipes import GLYPH, VECTOR, Recipe
from coterie.views.settings import ViewSettings
from coterie.views.warps import horizontal_flip, pad_and_crop

MARGIN = 4  # pixels, whatever the size of the image; of tiny ones a quarter of the side
OPERATIONS, REACH = 3, 0.3  # shear and shift either way, as a tangent and as a share of the side
GREY = (125 + 123 + 114) / 3 / 255  # of the hole; FixMatch's is a shade warmer where there are colours


def weak_photo(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    """Shift by up to four pixels, with a black border, and flip."""
    margin = min(MARGIN, min(images.shape[2:]) // 4)
    return horizontal_flip(pad_and_crop(images, draw, margin), draw.chance(settings.flip))


def strong_photo(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    """Operations, a grey hole of up to half the side, and the weak view of what is left."""
    changed = random_operations(images, draw, OPERATIONS, shear=REACH, shift=REACH)
    return weak_photo(with_hole(changed, draw), draw, settings)


def strong_glyph(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    """The strong view of letters, and a grey hole of up to half the side."""
    return with_hole(GLYPH["strong"](images, draw, settings), draw)


def with_hole(images: Tensor, draw: Draw) -> Tensor:
    """A grey square, its side uniform up to half of the image's and its centre anywhere."""
    return random_cutout(images - GREY, draw, min(images.shape[2:]) // 2) + GREY


WEAK: dict[Family, Recipe] = {"photo": weak_photo, "glyph": GLYPH["weak"], "vector": VECTOR["weak"]}
STRONG: dict[Family, Recipe] = {"photo": strong_photo, "glyph": strong_glyph, "vector": VECTOR["strong"]}
