"""Pictures that must be decoded (files, cells of a table, items of a Dataset) -> a Source.

Two passes: first the headers (and the values of pictures of more than 8 bits), to find the common form, the scale of
brightness and what is no image at all; then every picture is decoded once, into memory, into the cache, or, where
neither is large enough, only to see that it can be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.data import store
from coterie.data.fingerprint import list_fingerprint
from coterie.data.items import ArrayImages, DecodedImages, Embeddings
from coterie.data.picture_form import Encode, Options, check_kind, choose_form
from coterie.data.pixel_values import ValueRule, scale_of
from coterie.data.survey import Survey, spans, survey_of
from coterie.types import InputError, Items, ItemSpec, Skipped, Source

if TYPE_CHECKING:
    from PIL.Image import Image

REUSED = "Decoded images were taken from the cache."


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
    whole: bool = False  # none may be skipped: whoever gave them goes by their place
    serial: bool = False  # `load` may not be called from several threads
    values: tuple[float, float] | None = None  # where `load` maps pixels itself: the values that become 0 and 255

    def part(self, start: int, stop: int) -> Pictures:
        """Pictures `start` to `stop` alone."""
        return replace(
            self,
            ids=self.ids[start:stop],
            load=lambda row: self.load(start + row),
            digest=lambda row: self.digest(start + row),
            stamp=f"{self.stamp} {start} {stop}",
            locked=[],
        )

    def skipped(self, failures: Mapping[int, str]) -> list[Skipped]:
        """The pictures that could not be read, each with the reason, and what could not even be listed."""
        return [Skipped(self.ids[row], failures[row]) for row in sorted(failures)] + self.locked


def open_pictures(pictures: Pictures, options: Options, survey: Survey | None = None) -> Source:
    """Return the source; InputError if too many pictures or all cannot be read. `survey` saves the first pass."""
    from coterie.data.decode import quiet_pillow

    if options.encode is not None:
        survey = survey or options.survey or look(pictures, options)
        if (encoded := options.encode(pictures, survey, options)) is not None:
            return encoded
    check_kind(options, "images", pictures.where)
    wanted: tuple[object, ...] = (pictures.stamp, options.like, options.image_size, options.channels, store.FORMAT)
    wanted = wanted if options.shown is None else (*wanted, options.shown)
    key = hashlib.sha256(repr(wanted).encode()).hexdigest()[:20]
    found = store.find(options.cache, key) if options.cache is not None else None
    if options.cache is not None and found is not None:
        check_share(pictures, found.failures, options)
        pixels = store.open_pixels(options.cache, key, found.rows, found.spec)
        return _source(
            pictures, ArrayImages(pixels, found.spec), found.failures, found.fingerprint, [*found.notes, REUSED]
        )
    with quiet_pillow():
        survey = survey or look(pictures, options)
        failures, rule, values = readable_pictures(pictures, survey, options)
        readable = survey.widths > 0
        all_grey = bool(survey.grey[readable].all())
        spec, notes = choose_form(survey.widths[readable], survey.heights[readable], all_grey, options, values)
        notes = [*rule.notes, *notes, *survey.notes()]
        return _decode_all(pictures, options, spec, rule, key, failures, notes)


def recognised(left_out: Collection[str]) -> Encode:
    """For `open_source(encode=)`: takes only the fingerprint of pictures, which takes no decoding.

    `left_out`: ids that do not count, for the fingerprint of embedded pictures is that of the readable ones.
    """

    def encode(pictures: Pictures, survey: Survey, options: Options) -> Source:
        rows = [row for row, name in enumerate(pictures.ids) if name not in left_out]
        ids = [pictures.ids[row] for row in rows]
        fingerprint = list_fingerprint(ids, map(pictures.digest, rows))
        return Source(
            pictures.name, pictures.origin, Embeddings(np.empty((len(rows), 1), np.float32)), ids, fingerprint
        )

    return encode


def look(pictures: Pictures, options: Options) -> Survey:
    """The first pass."""
    from coterie.data.decode import quiet_pillow

    with quiet_pillow():
        threads = 1 if pictures.serial else options.threads
        return survey_of(pictures.load, len(pictures.ids), threads, options.progress)


def readable_pictures(
    pictures: Pictures, survey: Survey, options: Options
) -> tuple[dict[int, str], ValueRule, tuple[float, float]]:
    """What the first pass found unreadable, the rule for pictures of more than 8 bits, and what `ItemSpec` keeps of it.

    Raises InputError where too many cannot be read.
    """
    failures = dict(survey.failures)
    check_share(pictures, failures, options, so_far="At least ")
    rule, values = _scale(pictures, survey, failures, options)
    check_share(pictures, failures, options, so_far="At least ")
    return failures, rule, values


def _scale(
    pictures: Pictures, survey: Survey, failures: dict[int, str], options: Options
) -> tuple[ValueRule, tuple[float, float]]:
    """Return the rule for pictures of more than 8 bits and what `ItemSpec` keeps of it.

    Adds to `failures` the pictures of 8 bits that a model of wider ones cannot be given.
    """
    if pictures.values is not None:
        return ValueRule(), pictures.values
    readable = survey.widths > 0
    wide, narrow = readable & survey.wide, readable & ~survey.wide
    low, high, understands_bytes = scale_of(options.like)
    if not understands_bytes:
        for row in np.flatnonzero(narrow).tolist():
            failures[row] = f"it has 8 bits, but the model was fitted on pixel values from {low:g} to {high:g}"
    if not wide.any():
        return ValueRule(), (0.0, 0.0)
    if options.first is not None:
        raise InputError(
            f"{pictures.ids[int(wide.argmax())]} in {pictures.where} has more than 8 bits a pixel: how such are "
            "read is decided by all pictures together, which a part does not see; leave out --engine and -o FOLDER."
        )
    mixed = options.like is None and bool(narrow.any())
    rule = survey.rule(pictures.where, options.like, pictures.ids, beside_bytes=mixed)
    return rule, (0.0, 0.0) if mixed else rule.range


def _decode_all(
    pictures: Pictures,
    options: Options,
    spec: ItemSpec,
    rule: ValueRule,
    key: str,
    failures: dict[int, str],
    notes: list[str],
) -> Source:
    """Run the second pass and put the images where there is room for them."""
    threads = 1 if pictures.serial else options.threads
    digests: list[bytes] = []
    images = _decoded(pictures, spec, rule, threads, failures, digests, options)
    count = len(pictures.ids) - len(failures)
    size = count * store.image_bytes(spec)
    items: Items
    if size <= options.memory_limit:
        pixels = np.empty((count, spec.channels, spec.height, spec.width), np.uint8)
        filled = 0
        for image in images:
            pixels[filled] = image
            filled += 1
        check_share(pictures, failures, options)
        items = ArrayImages(pixels[:filled], spec)
    elif options.cache is not None and store.has_room(options.cache, size):
        filled = store.write_pixels(options.cache, key, images)
        fingerprint = list_fingerprint(pictures.ids, digests)
        store.write_facts(options.cache, key, store.Stored(spec, filled, failures, fingerprint, notes))
        check_share(pictures, failures, options)  # after the facts: with a higher limit the work is not lost
        items = ArrayImages(store.open_pixels(options.cache, key, filled, spec), spec)
    else:
        for _ in images:
            pass
        check_share(pictures, failures, options)
        rows = np.array([row for row in range(len(pictures.ids)) if row not in failures], np.int64)
        items = DecodedImages(pictures.load, rows, pictures.ids, spec, threads, rule)
        why = "the cache's disk has no room" if options.cache is not None else "there is no cache folder"
        often = f"Images are decoded every time they are used: decoded they take {size / 1e9:.1f} GB and {why}."
        notes = [*notes, often]
    return _source(pictures, items, failures, list_fingerprint(pictures.ids, digests), notes)


def _source(pictures: Pictures, items: Items, failures: dict[int, str], digest: str, notes: list[str]) -> Source:
    ids = pictures.ids
    if failures:
        ids = [name for row, name in enumerate(pictures.ids) if row not in failures]
    return Source(
        pictures.name,
        pictures.origin,
        items,
        ids,
        digest,
        pictures.skipped(failures),
        notes=[*pictures.notes, *notes],
        family=pictures.family,
    )


def too_many(bad: str, total: int, where: str, first: str, share: float) -> str:
    """The sentence, without a full stop, that too many images cannot be read; `first` names one of them."""
    return (
        f"{bad} of the {total} images in {where} cannot be read{first}, more than the {share:.0%} that may be skipped; "
        "repair or remove them"
    )


def check_share(pictures: Pictures, failures: dict[int, str], options: Options, so_far: str = "") -> None:
    """Raise InputError if too many pictures cannot be read or too few are left. Not for a part of a source."""
    if options.first is not None:
        return
    total, bad = len(pictures.ids), len(failures)
    if bad and pictures.whole:
        row = min(failures)
        raise InputError(
            f"{pictures.ids[row]} in {pictures.where} cannot be read ({failures[row]}); repair it or leave it out."
        )
    if bad == total == 1:
        raise InputError(f"The picture {pictures.ids[0]} cannot be read ({failures[0]}); repair it or give another.")
    first = f" (the first is {pictures.ids[min(failures)]}: {failures[min(failures)]})" if bad else ""
    if bad > options.max_skipped * total:
        found = too_many(f"{so_far}{bad}", total, pictures.where, first, options.max_skipped)
        raise InputError(f"{found}, or raise max_skipped.")
    if total - bad < options.minimum:
        raise InputError(
            f"Only n_samples={total - bad} of the {total} images in {pictures.where} can be read{first}, "
            f"but at least {options.minimum} are needed."
        )


def _decoded(
    pictures: Pictures,
    spec: ItemSpec,
    rule: ValueRule,
    threads: int,
    failures: dict[int, str],
    digests: list[bytes],
    options: Options,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures that can be decoded, in order; add to `failures` and fill `digests` on the way."""
    from coterie.data.decode import decode

    known = frozenset(failures)

    def one(row: int) -> tuple[NDArray[np.uint8] | str, bytes]:
        result = failures[row] if row in known else decode(pictures.load, row, spec, rule)
        try:
            return result, pictures.digest(row)
        except OSError:
            return result, b"unreadable"

    for row, (result, digest) in enumerate(spans(one, len(pictures.ids), threads, "decoding", options.progress)):
        digests.append(digest)
        if isinstance(result, str):
            failures[row] = result
        else:
            yield result
