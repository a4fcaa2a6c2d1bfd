"""The pictures of a run's items, by row. Files are only ever opened for reading, and only those that the run names."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.decode import BYTES, TURNS, orientation_of, quiet_pillow, reason
from coterie.data.originals import originals_of
from coterie.data.shrink import Rule, Unreadable, is_wide, shrunk, turn
from coterie.types import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from coterie.review.base import Base

THUMB, LARGE = 160, 2048  # pixels of the longer side

Opener = Callable[[int], "Image"]
Sizes = Callable[[int], "int | None"]
Has = Callable[[int], bool]


class Pictures:
    """Opens the picture of a row, or says in a few words why it cannot. `broken` counts those that could not.

    `size`: the bytes of a row's file, None where that is not known. `has`: whether a file is there. `changed`: what to
    say where they are others now. `where` they lie.
    """

    def __init__(
        self,
        open_row: Opener | None,
        why: str = "",
        size: Sizes = lambda row: None,
        has: Has = lambda row: True,
        changed: str | None = None,
        where: str = "",
    ) -> None:
        self._open, self.why, self.size, self.has = open_row, why, size, has
        self.changed, self.where = changed, where
        self.broken: dict[int, str] = {}

    @property
    def there(self) -> bool:
        return self._open is not None

    def encoded(self, row: int, side: int) -> bytes:
        """The picture of a row as WebP, upright, at most `side` pixels. Raises Unreadable with the reason."""
        from PIL import Image

        if self._open is None:
            raise Unreadable(self.why)
        try:
            with quiet_pillow(), self._open(row) as image:
                small = _upright(image, side)
                small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
                found = _webp(small)
        except Exception as error:  # broken files make Pillow raise almost anything
            self.broken[row] = str(error) if isinstance(error, InputError) else reason(error)
            raise Unreadable(self.broken[row]) from error
        self.broken.pop(row, None)  # it was late, or its file has come back
        return found


def _upright(image: Image, side: int) -> Image:
    orientation = orientation_of(image)
    image.draft("RGB", (side, side))
    with turn(image):
        image.load()
        factor = max(1, int(min(image.width, image.height) / side / 2))
        image = shrunk(image, "RGB", factor, _range_rule(image))
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _range_rule(image: Image) -> Rule:
    """Pictures of more than 8 bits are shown from their darkest to their brightest value."""
    if not is_wide(image.mode):
        return BYTES
    values = np.asarray(image)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))

    def rule(part: NDArray[Any]) -> NDArray[np.uint8]:
        return ((part.astype(np.float64) - low) / ((high - low) or 1) * 255).clip(0, 255).astype(np.uint8)

    return rule


def _webp(image: Image) -> bytes:
    sink = io.BytesIO()
    if max(image.size) <= 64:
        image.save(sink, "WEBP", lossless=True)
    else:
        image.save(sink, "WEBP", quality=80, method=2)
    return sink.getvalue()


def open_pictures(base: Base, source: str | None) -> Pictures:
    """The pictures of a run. Raises InputError where they are not where they were."""
    if base.folder.kind != "images":
        return Pictures(None, "the items are no pictures")
    originals = originals_of(base.folder.run, base.ids, source)

    def size(row: int) -> int | None:
        """Bytes of a picture's file; None where it is in none, or gone."""
        with suppress(OSError, InputError):
            return originals.path(base.ids[row]).stat().st_size if originals.path is not None else None
        return None

    def has(row: int) -> bool:
        """Of cells of a table True: to look at one is to read it."""
        return originals.path is None or originals.has(base.ids[row])

    return Pictures(
        lambda row: originals.open(base.ids[row]),
        size=size,
        has=has,
        changed=originals.changed(),
        where=os.fsdecode(originals.where),
    )
