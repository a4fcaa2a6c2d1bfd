"""Pictures that hardly differ: nearly black, nearly white, of one grey, or copies of one but for a little noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coterie.types import Source

SAMPLE = 64  # pictures that are looked at, spread evenly over the source
RARE = 0.1  # percent of the values at either end that do not count: a hot pixel, a date in a corner
FEW = 16  # greys of 256: floats that fill fewer are stretched, and bytes are left as they are (`pixel_values.DARK`)
ADVICE = "there may be too little in them to be grouped"


def mark_flat(source: Source) -> None:
    """Add to `Source.warnings` where nearly all pixels of a source to be fitted have nearly the same value."""
    import torch

    pictures = source.items if source.items.spec.kind == "images" else source.pictures
    if pictures is None or len(pictures) < 2:
        return
    rows = np.unique(np.linspace(0, len(pictures) - 1, SAMPLE).astype(np.int64))
    if said := flatness(pictures.take(torch.from_numpy(rows)).numpy()):
        source.warnings.append(f"Nearly all pixels of {source.name} {said}")


def flatness(pixels: NDArray[np.uint8]) -> str:
    """The rest of the sentence for pictures (n, c, h, w) that hardly differ, "" for others."""
    low, high = np.percentile(pixels, [RARE, 100 - RARE]).tolist()
    if high - low < FEW:
        look = "black" if high < FEW else "white" if low > 255 - FEW else "of one grey"
        return (
            f"have values from {low:.0f} to {high:.0f} of 0 to 255: the pictures are nearly {look}, and {ADVICE}; "
            "stretch their brightness first."
        )
    away = pixels - pixels.mean(0, dtype=np.float32)
    low, high = np.percentile(away, [RARE, 100 - RARE]).tolist()
    if high - low < FEW:
        return f"differ from picture to picture by less than {FEW} of 256 greys, and {ADVICE}."
    return ""
