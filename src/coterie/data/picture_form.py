"""What form the images of a source get: how many channels, how large."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.reading import ReadingProgress
from coterie.types import Encoding, InputError, ItemSpec, Source

if TYPE_CHECKING:
    from coterie.data.pictures import Pictures
    from coterie.data.survey import Survey

# Makes embeddings of pictures; None where these are to be decoded as they are (`coterie.encoders`).
Encode = Callable[["Pictures", "Survey", "Options"], Source | None]
NATIVE_LIMIT = 96  # pixels; images of one size up to this keep it


@dataclass(frozen=True)
class Options:
    """What the caller of `open_source` asked for; see there."""

    like: ItemSpec | None = None
    image_size: int | None = None
    channels: int | None = None
    cache: Path | None = None
    memory_limit: int = 2 << 30
    max_skipped: float = 0.2
    workers: int | None = None
    progress: ReadingProgress = lambda doing, done, total: None
    columns: str | tuple[str, ...] | None = None
    encode: Encode | None = None
    shown: Encoding | None = None  # pictures are to be decoded as this encoder sees them
    survey: Survey | None = None  # the first pass over pictures, where another process made it
    alone: bool = False  # nothing is clustered, so that one item is enough and all may be the same
    first: int | None = None  # the number in its source of the first item: only a part of a source is opened

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 4:
            raise InputError(f"--image-size is {self.image_size}, but an image needs at least 4 pixels a side.")
        if self.channels not in (None, 1, 3):
            raise InputError(f"channels is {self.channels}, but images can be made grey (1) or RGB (3) only.")
        if not 0 <= self.max_skipped <= 1:
            raise InputError(f"max_skipped is {self.max_skipped}, but it is a share and lies between 0 and 1.")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}, but at least 1 thread is needed to decode images.")

    @property
    def threads(self) -> int:
        if self.workers is not None:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def minimum(self) -> int:
        """How many items are enough: two to cluster, one for a model or alone, and none in a part of a source."""
        if self.first is not None:
            return 0
        return 1 if self.alone or self.like is not None else 2


def shown_to(encoding: Encoding, values: tuple[float, float] = (0.0, 0.0)) -> ItemSpec:
    """The `ItemSpec` of pictures as an encoder sees them; `values` are its `low` and `high`."""
    side, (low, high) = encoding.size, values
    return ItemSpec("images", channels=3, height=side, width=side, low=low, high=high, encoding=encoding)


def check_kind(options: Options, kind: str, name: str) -> None:
    """Raise InputError if a fitted model asks for the other kind of data."""
    if options.like is not None and options.like.kind != kind:
        raise InputError(f"{name} holds {kind}, but the model was fitted on {options.like.kind}; give it those.")


def choose_form(
    widths: NDArray[Any],
    heights: NDArray[Any],
    all_grey: bool,
    options: Options,
    values: tuple[float, float] = (0.0, 0.0),
) -> tuple[ItemSpec, list[str]]:
    """Return the form that all images get, and notes on what is done to them; `values` are its `low` and `high`."""
    sizes = np.unique(np.stack([widths, heights], 1), axis=0)
    first = f"{sizes[0][0]}x{sizes[0][1]} pixels" if len(sizes) else ""
    seen = f"images of {first}" if len(sizes) == 1 else f"images of {len(sizes)} different sizes"
    if options.like is not None:
        spec = options.like
    elif options.shown is not None:
        spec = shown_to(options.shown, values)
    else:
        channels = options.channels or (1 if all_grey else 3)
        if options.image_size is not None:
            width = height = options.image_size
        elif len(sizes) == 1 and sizes.max() <= NATIVE_LIMIT:
            width, height = int(sizes[0][0]), int(sizes[0][1])
        else:
            width = height = 64 if np.median(np.minimum(widths, heights)) < 128 else 128
        spec = ItemSpec("images", channels=channels, height=height, width=width, low=values[0], high=values[1])
    notes = []
    if spec.encoding is not None:
        notes.append(f"The {seen} are shown as {spec.encoding.encoder} sees them, at {spec.width}x{spec.height}.")
    elif len(sizes) > 1 or any(tuple(size) != (spec.width, spec.height) for size in sizes):
        notes.append(f"The {seen} were scaled and centre-cropped to {spec.width}x{spec.height}.")
    if spec.channels == 1 and not all_grey:
        notes.append("Colour images were turned to grey.")
    return spec, notes
