"""Pictures that must be decoded (files, cells of a table, items of a Dataset) -> a Source.

Two passes: headers only, to find the common form and what is no image at all; then every picture is decoded once,
into memory, into the cache, or, where neither is large enough, only to see that it can be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from coterie.data import store
from coterie.data.fingerprint import list_fingerprint
from coterie.data.forms import Options, check_kind, choose_form
from coterie.data.items import ArrayImages, DecodedImages
from coterie.types import InputError, Items, ItemSpec, Skipped, Source

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result")
REUSED = "Decoded images were taken from the cache."
SPAN = 32  # pictures per task: small ones take less time than handing over a task


@dataclass(frozen=True)
class Pictures:
    """Pictures not yet decoded, by number."""

    name: str  # for tables: "photos"
    where: str  # for errors: "folder /home/me/photos"
    origin: str
    ids: Sequence[str]
    load: Callable[[int], Image]  # opens picture i; may leave the decoding to Pillow's `load`
    digest: Callable[[int], bytes]  # SHA-256 of the content of picture i
    stamp: str  # changes when the source looks changed, without reading it: the key of the cache
    notes: list[str] = field(default_factory=list)
    locked: list[Skipped] = field(default_factory=list)  # what could not even be listed
    family: Literal["photo", "glyph"] = "photo"
    serial: bool = False  # `load` may not be called from several threads
    values: tuple[float, float] = (0.0, 0.0)  # the pixel values that `load` maps to 0 and 255 (`ItemSpec.low`, `.high`)


@dataclass
class Survey:
    """What the headers say; width 0 where `failures` has the reason."""

    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    grey: NDArray[np.bool_]
    failures: dict[int, str]


def open_pictures(pictures: Pictures, options: Options, survey: Survey | None = None) -> Source:
    """Return the source; InputError if too many pictures or all cannot be read. `survey` saves the first pass."""
    from coterie.data.decode import quiet_pillow

    check_kind(options, "images", pictures.where)
    wanted = (pictures.stamp, options.like, options.image_size, options.channels, store.FORMAT)
    key = hashlib.sha256(repr(wanted).encode()).hexdigest()[:20]
    found = store.find(options.cache, key) if options.cache is not None else None
    if options.cache is not None and found is not None:
        _check_share(pictures, found.failures, options)
        pixels = store.open_pixels(options.cache, key, found.rows, found.spec)
        return _source(
            pictures, ArrayImages(pixels, found.spec), found.failures, found.fingerprint, [*found.notes, REUSED]
        )
    with quiet_pillow():
        survey = survey or _look(pictures, 1 if pictures.serial else options.threads)
        failures = dict(survey.failures)
        _check_share(pictures, failures, options, so_far="At least ")
        readable = survey.widths > 0
        all_grey = bool(survey.grey[readable].all())
        spec, notes = choose_form(survey.widths[readable], survey.heights[readable], all_grey, options, pictures.values)
        return _decode_all(pictures, options, spec, key, failures, notes)


def _decode_all(
    pictures: Pictures, options: Options, spec: ItemSpec, key: str, failures: dict[int, str], notes: list[str]
) -> Source:
    """Run the second pass and put the images where there is room for them."""
    threads = 1 if pictures.serial else options.threads
    digests: list[bytes] = []
    images = _decoded(pictures, spec, threads, failures, digests)
    count = len(pictures.ids) - len(failures)
    size = count * store.image_bytes(spec)
    items: Items
    if size <= options.memory_limit:
        pixels = np.empty((count, spec.channels, spec.height, spec.width), np.uint8)
        filled = 0
        for image in images:
            pixels[filled] = image
            filled += 1
        _check_share(pictures, failures, options)
        items = ArrayImages(pixels[:filled], spec)
    elif options.cache is not None and store.has_room(options.cache, size):
        filled = store.write_pixels(options.cache, key, images)
        fingerprint = list_fingerprint(pictures.ids, digests)
        store.write_facts(options.cache, key, store.Stored(spec, filled, failures, fingerprint, notes))
        _check_share(pictures, failures, options)  # after the facts: with a higher limit the work is not lost
        items = ArrayImages(store.open_pixels(options.cache, key, filled, spec), spec)
    else:
        for _ in images:
            pass
        _check_share(pictures, failures, options)
        rows = np.array([row for row in range(len(pictures.ids)) if row not in failures], np.int64)
        items = DecodedImages(pictures.load, rows, pictures.ids, spec, threads)
        why = "the cache's disk has no room" if options.cache is not None else "there is no cache folder"
        often = f"Images are decoded every time they are used: decoded they take {size / 1e9:.1f} GB and {why}."
        notes = [*notes, often]
    return _source(pictures, items, failures, list_fingerprint(pictures.ids, digests), notes)


def _source(pictures: Pictures, items: Items, failures: dict[int, str], digest: str, notes: list[str]) -> Source:
    ids = pictures.ids
    if failures:
        ids = [name for row, name in enumerate(pictures.ids) if row not in failures]
    skipped = [Skipped(pictures.ids[row], failures[row]) for row in sorted(failures)] + pictures.locked
    return Source(
        pictures.name,
        pictures.origin,
        items,
        ids,
        digest,
        skipped,
        notes=[*pictures.notes, *notes],
        family=pictures.family,
    )


def _check_share(pictures: Pictures, failures: dict[int, str], options: Options, so_far: str = "") -> None:
    """Raise InputError if too many pictures cannot be read, or too few can."""
    total, bad = len(pictures.ids), len(failures)
    first = f" (the first is {pictures.ids[min(failures)]}: {failures[min(failures)]})" if bad else ""
    if bad > options.max_skipped * total:
        raise InputError(
            f"{so_far}{bad} of the {total} images in {pictures.where} cannot be read{first}, more than the "
            f"{options.max_skipped:.0%} that may be skipped; repair or remove them, or raise max_skipped."
        )
    if total - bad < options.minimum:
        raise InputError(
            f"Only n_samples={total - bad} of the {total} images in {pictures.where} can be read{first}, "
            f"but at least {options.minimum} are needed."
        )


def _look(pictures: Pictures, threads: int) -> Survey:
    """Read the header of every picture."""
    from coterie.data.decode import is_grey, reason, upright_size

    count = len(pictures.ids)
    survey = Survey(np.zeros(count, np.int32), np.zeros(count, np.int32), np.zeros(count, np.bool_), {})

    def one(row: int) -> None:
        try:
            with pictures.load(row) as image:
                survey.widths[row], survey.heights[row] = upright_size(image)
                survey.grey[row] = is_grey(image.mode)
        except Exception as error:  # see `decode.decode`
            survey.widths[row] = 0
            survey.failures[row] = reason(error)

    def span(start: int) -> None:
        for row in range(start, min(start + SPAN, count)):
            one(row)

    for _ in _ordered(span, range(0, count, SPAN), threads):
        pass
    return survey


def _decoded(
    pictures: Pictures, spec: ItemSpec, threads: int, failures: dict[int, str], digests: list[bytes]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures that can be decoded, in order; add to `failures` and fill `digests` on the way."""
    from coterie.data.decode import decode

    count, known = len(pictures.ids), frozenset(failures)

    def one(row: int) -> tuple[NDArray[np.uint8] | str, bytes]:
        result = failures[row] if row in known else decode(pictures.load, row, spec)
        try:
            return result, pictures.digest(row)
        except OSError:
            return result, b"unreadable"

    def span(start: int) -> list[tuple[NDArray[np.uint8] | str, bytes]]:
        return [one(row) for row in range(start, min(start + SPAN, count))]

    row = 0
    for results in _ordered(span, range(0, count, SPAN), threads):
        for result, digest in results:
            digests.append(digest)
            if isinstance(result, str):
                failures[row] = result
            else:
                yield result
            row += 1


def _ordered(work: Callable[[int], Result], starts: Sequence[int], threads: int) -> Iterator[Result]:
    """Map in a pool of threads, in order, with a bounded number of results waiting."""
    if threads == 1:
        yield from map(work, starts)
        return
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(starts), 4 * threads):
            yield from pool.map(work, starts[first : first + 4 * threads])
