"""Whether pictures are photographs or glyphs (letters, digits, signs), by their looks alone.

A mirrored letter is another letter or none, so glyphs are shifted, turned and slanted instead of flipped and cropped.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from coterie.types import Family, Source

LARGEST = 64  # pixels a side, beyond which pictures are photographs
SAMPLE = 512
SOFT = 14  # an edge of a glyph is as wide as this part of its side
SHADE = 6  # greys that JPEG may add to a plain ground
CHANGE = "--family {other} says otherwise"


def with_family(source: Source, family: Family | Literal["auto"]) -> Source:
    """Set the family that the user says; else guess that of small grey pictures, and say so in a note."""
    import torch

    spec = source.items.spec
    if spec.kind == "images" and family != "auto":
        source.family = family
        return source
    if source.family_known or spec.kind != "images" or max(spec.height, spec.width) > LARGEST or spec.channels > 3:
        return source
    rows = np.unique(np.linspace(0, len(source.items) - 1, SAMPLE).astype(np.int64))
    pixels = source.items.take(torch.from_numpy(rows)).numpy()
    if int(np.ptp(pixels, axis=1).max()) > SHADE:
        return source
    like_glyphs = float(glyph_like(pixels[:, 0]).mean())
    source.family = "glyph" if like_glyphs > 0.5 else "photo"
    if source.family == "glyph":
        did, other = "letters or signs, which are not mirrored or cropped in training", "photo"
    else:
        did, other = "grey photographs, which are mirrored and cropped in training", "glyph"
    source.notes.append(f"The pictures look like {did}; {CHANGE.format(other=other)}.")
    return source


def glyph_like(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say of each grey picture (n, h, w) whether it is plain ink on a plain ground.

    The ground is the median value of the border; a third of a glyph has it. The ink is the value farthest from it.
    Inside the drawn parts, off their soft edges, a glyph is nearly all ink; a photograph has other greys there, too.
    """
    values = pixels.astype(np.float32)
    border = np.concatenate([values[:, 0], values[:, -1], values[:, :, 0], values[:, :, -1]], axis=1)
    away = np.abs(values - np.median(border, axis=1)[:, None, None])
    most = away.max((1, 2), keepdims=True)
    drawn = away > 0.1 * most
    edge = -(-min(pixels.shape[1:]) // SOFT)
    padded = np.pad(drawn, ((0, 0), (edge, edge), (edge, edge)), constant_values=True)
    window = (2 * edge + 1, 2 * edge + 1)
    inside = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(1, 2)).all((-1, -2))
    shaded = (inside & (away < 0.7 * most)).mean((1, 2)) / np.maximum(drawn.mean((1, 2)), 1e-9)
    ground = (away <= SHADE).mean((1, 2))
    return (most[:, 0, 0] > 4 * SHADE) & (ground > 0.35) & (shaded < 0.15)
