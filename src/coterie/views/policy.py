"""Random operations from a pool, as in RandAugment: the middle part of the strong view.

Each round draws for every image one operation of the pool, with replacement, and a magnitude uniform in the operation's
range. The images that drew the same kind of operation are processed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from coterie.views import colour, tone
from coterie.views.draw import Draw
from coterie.views.some_rows import update_rows
from coterie.views.warps import affine

# CDC's 14 operations with their ranges (section "strong view" of the authors' code, after SCAN).
PHOTO_POOL = (
    "identity", "autocontrast", "equalise", "rotate", "solarise", "saturation", "contrast", "brightness", "sharpness",
    "shear_x", "shear_y", "translate_x", "translate_y", "posterise",
)  # fmt: skip
# Operations that keep a digit or letter legible: solarising can erase its strokes; its geometry is drawn elsewhere.
GLYPH_POOL = ("identity", "autocontrast", "equalise", "contrast", "brightness", "sharpness", "posterise")

TURN = 30.0  # degrees either way
SHEAR = 0.1  # tangent, either way; FixMatch: 0.3
SHIFT = 0.1  # share of the side, either way; FixMatch: 0.3
FACTOR = (0.05, 0.95)  # of saturation, contrast, brightness and sharpness
BITS = (4, 8)  # posterise keeps the integer part
LEVELS = 256  # solarise draws its threshold in 0..256 of 255, so 256 inverts nothing


def random_operations(
    images: Float[Tensor, "b c h w"],
    draw: Draw,
    rounds: int,
    pool: Sequence[str] = PHOTO_POOL,
    shear: float = SHEAR,
    shift: float = SHIFT,
) -> Float[Tensor, "b c h w"]:
    """Apply `rounds` operations of the pool to each image, one after the other.

    `shear` is the largest tangent and `shift` the largest share of the side, both either way.
    """
    out = images.clone()
    for _ in range(rounds):
        drawn, magnitude = draw.integers(0, len(pool)), draw.uniform()
        _one_round(out, {name: drawn == i for i, name in enumerate(pool)}, magnitude, shear, shift)
    return out


def _one_round(images: Tensor, chosen: dict[str, Tensor], magnitude: Tensor, shear: float, shift: float) -> None:
    """Change each image, in place, by the operation that it drew; `chosen` has a mask (b,) per name of the pool."""
    never = torch.zeros_like(magnitude, dtype=torch.bool)

    def drew(*names: str) -> Tensor:
        return torch.stack([chosen.get(name, never) for name in names]).any(0)

    factor = FACTOR[0] + (FACTOR[1] - FACTOR[0]) * magnitude
    bits = (BITS[0] + (BITS[1] - BITS[0]) * magnitude).long()
    update_rows(images, drew("autocontrast"), tone.autocontrast)
    update_rows(images, drew("equalise"), tone.equalise)
    update_rows(images, drew("solarise"), tone.solarise, magnitude * LEVELS / 255)
    update_rows(images, drew("posterise"), tone.posterise, bits)
    update_rows(images, drew("sharpness"), tone.sharpness, factor)
    kind = drew("contrast") * colour.CONTRAST + drew("saturation") * colour.SATURATION
    update_rows(images, drew("brightness", "contrast", "saturation"), colour.blend, factor, kind)

    # The authors call PIL with its default, the nearest pixel.
    either_way = 2 * magnitude - 1
    slant = torch.rad2deg(torch.atan(shear * either_way))
    h, w = images.shape[2:]
    # PIL shears about the top left corner, which is a shear about the centre and a shift.
    warp = [
        drew("rotate") * TURN * either_way,
        (drew("translate_x") * shift * w - drew("shear_x") * shear * h / 2) * either_way,
        (drew("translate_y") * shift * h - drew("shear_y") * shear * w / 2) * either_way,
        drew("shear_x") * slant,
        drew("shear_y") * slant,
        torch.ones_like(magnitude),
    ]
    geometric = drew("rotate", "translate_x", "translate_y", "shear_x", "shear_y")
    update_rows(images, geometric, partial(affine, interpolation="nearest"), *warp)
