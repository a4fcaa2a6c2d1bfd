"""A picture of any of Pillow's modes -> modes L and RGB, in bands, so that a large one needs little memory beside it.

A palette of 13,000x13,000 pixels is 170 MB, and 2 GB where it is converted as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coterie.data.ranges import PixelValues

LARGEST = 512 << 20  # bytes that one decoded picture may take in Pillow
LARGE = 32 << 20  # pictures above are decoded one at a time, by however many threads
BAND = 1 << 20  # pixels that are converted at a time
_alone = threading.Lock()
Rule = Callable[[NDArray[Any]], NDArray[np.uint8]]
"""Makes bytes of the values of a picture that has more than 8 bits a pixel: a `pixel_values.ValueRule`, say."""


class Unreadable(Exception):
    """A picture that cannot be read; the text is the reason in a few words."""


def is_wide(mode: str) -> bool:
    """Say whether a Pillow mode has more than 8 bits a pixel, so that its values must be scaled to 0 to 255."""
    return mode.startswith(("I", "F"))


def turn(image: Image.Image) -> AbstractContextManager[Any]:
    """Wait until this picture may be decoded, to be used in `with`; Unreadable if it would take too much memory."""
    size = _decoded_bytes(image)
    if size > LARGEST:
        raise Unreadable(
            f"{image.width}x{image.height} pixels of mode {image.mode} take {size / 1e6:.0f} MB decoded, more than the "
            f"{LARGEST / 1e6:.0f} MB that one picture may"
        )
    return _alone if size > LARGE else nullcontext()


def count_values(image: Image.Image, row: int) -> PixelValues:
    """Count the values of picture `row`, of a mode with more than 8 bits; Unreadable for NaN and infinity."""
    found = PixelValues()
    for _, band in _bands(image, 1):
        values = np.asarray(band)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Unreadable("it contains NaN or infinite values")
        found.add(row, values[None])
    return found


def shrunk(image: Image.Image, mode: str, factor: int, rule: Rule) -> Image.Image:
    """Return the picture in `mode`, L or RGB, on white and `factor` times smaller; `rule` maps wide values to bytes."""
    if image.width * image.height <= BAND:
        small = _converted(image, mode, rule)
        return small.reduce(factor) if factor > 1 else small
    whole = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    for top, band in _bands(image, factor):
        part = _converted(band, mode, rule)
        whole.paste(part.reduce(factor) if factor > 1 else part, (0, top // factor))
    return whole


def _bands(image: Image.Image, factor: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield (first line, lines), a multiple of `factor` lines at a time."""
    lines = max(factor, BAND // max(1, image.width) // factor * factor)
    for top in range(0, image.height, lines):
        yield top, image.crop((0, top, image.width, min(top + lines, image.height)))


def _converted(image: Image.Image, mode: str, rule: Rule) -> Image.Image:
    if is_wide(image.mode):
        image = Image.fromarray(_wide(image, rule))
    elif image.has_transparency_data:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _wide(image: Image.Image, rule: Rule) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable("it contains NaN or infinite values")
    return rule(values)


def _decoded_bytes(image: Image.Image) -> int:
    """What Pillow holds of a picture: a byte or two for each pixel, four for more channels than one."""
    mode = image.mode
    each = 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4
    return image.width * image.height * each
