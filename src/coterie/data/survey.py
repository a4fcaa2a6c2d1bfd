"""The first pass over pictures: sizes and modes from the headers, and the values of those of more than 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from coterie.common.isolation import Threads
from coterie.common.words import counted
from coterie.data.pixel_values import ValueRule, rule_for
from coterie.data.ranges import PixelValues
from coterie.data.reading import ReadingProgress
from coterie.types import ItemSpec

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result")
SPAN = 32  # pictures per task: small ones take less time than handing over a task
MOVING = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")  # others say so of thumbnails, too


@dataclass
class Survey:
    """What is known of each picture; width 0 where `failures` has the reason."""

    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    grey: NDArray[np.bool_]
    wide: NDArray[np.bool_]  # more than 8 bits a pixel
    moving: NDArray[np.bool_]  # several frames or pages
    failures: dict[int, str] = field(default_factory=dict)
    values: PixelValues = field(default_factory=PixelValues)  # of the wide ones
    floats: bool = False  # whether any of them has floats
    # colour of 16 bits: the largest upper byte, all that Pillow reads
    deep: dict[int, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int) -> Survey:
        sizes, flags = np.zeros((2, count), np.int32), np.zeros((3, count), np.bool_)
        return cls(sizes[0], sizes[1], flags[0], flags[1], flags[2])

    def look(self, row: int, image: Image) -> None:
        """Note what picture `row` is; Unreadable for NaN in it, and whatever Pillow raises for damaged pixels."""
        from coterie.data.decode import is_grey, upright_size
        from coterie.data.shrink import count_values, is_wide, turn

        width, height = upright_size(image)
        if is_wide(image.mode):
            with turn(image):
                image.load()
                self.values.join(count_values(image, row))
            self.wide[row] = True
            self.floats = self.floats or image.mode.startswith("F")
        elif any(";16" in str(part) for part in getattr(image, "tile", ())):
            with turn(image):
                image.load()
                self.deep[row] = int(max(high for _, high in np.atleast_2d(image.getextrema())))
        self.grey[row] = is_grey(image.mode)
        self.moving[row] = image.format in MOVING and bool(getattr(image, "is_animated", False))
        self.widths[row], self.heights[row] = width, height

    def fail(self, row: int, error: Exception) -> None:
        from coterie.data.decode import reason

        self.widths[row] = 0
        self.failures[row] = reason(error)

    def notes(self) -> list[str]:
        """Notes on what is lost of the pictures: the lower bits of 16, further frames."""
        notes = []
        if self.deep:
            top = max(self.deep.values())
            dark = f" The values end at {top} of 255, which is dark: scale them before." if top < 64 else ""
            said = counted(len(self.deep), "colour picture of 16 bits was", "colour pictures of 16 bits were")
            notes.append(f"{said} read by the upper 8 bits.{dark}")
        if self.moving.any():
            count = int(self.moving.sum())
            said = "picture has" if count == 1 else "pictures have"
            notes.append(f"{count} {said} more frames or pages than one: the first stands for each.")
        return notes

    def rule(self, where: str, like: ItemSpec | None, ids: Sequence[str], *, beside_bytes: bool) -> ValueRule:
        """The rule for pictures of more than 8 bits, from the values of all of them. InputError where none fits."""
        dtype = np.dtype(np.float32 if self.floats else np.int32)
        return rule_for(dtype, self.values, where, like, ids=ids, beside_bytes=beside_bytes)


def survey_of(load: Callable[[int], Image], count: int, threads: int, progress: ReadingProgress) -> Survey:
    """Look at every picture."""
    survey = Survey.empty(count)

    def one(row: int) -> None:
        try:
            with load(row) as image:
                survey.look(row, image)
        except Exception as error:  # see `decode.decode`
            survey.fail(row, error)

    for _ in spans(one, count, threads, "looking", progress):
        pass
    return survey


def spans(
    work: Callable[[int], Result], count: int, threads: int, doing: str, progress: ReadingProgress
) -> Iterator[Result]:
    """Map over 0 to `count` in a pool of threads, in order, with a bounded number of results waiting."""

    def span(start: int) -> list[Result]:
        return [work(row) for row in range(start, min(start + SPAN, count))]

    def results() -> Iterator[list[Result]]:
        starts = range(0, count, SPAN)
        if threads == 1:
            yield from map(span, starts)
            return
        with Threads(threads) as pool:
            for first in range(0, len(starts), 4 * threads):
                yield from pool.map(span, starts[first : first + 4 * threads])

    done = 0
    for part in results():
        yield from part
        done += len(part)
        progress(doing, done, count)
