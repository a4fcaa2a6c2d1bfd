"""Pictures -> embeddings: decoded by threads, seen by the encoder in batches, kept part by part."""

from __future__ import annotations

import importlib.metadata
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coterie._version import __version__
from coterie.data.decode import decode, quiet_pillow
from coterie.data.feature_folders import SHOWN, check_encoding, open_features, with_encoding
from coterie.data.fingerprint import list_fingerprint
from coterie.data.items import DecodedImages, Embeddings
from coterie.data.picture_form import Options, shown_to
from coterie.data.pictures import Pictures, check_share, readable_pictures
from coterie.data.pixel_values import ValueRule
from coterie.data.survey import Survey
from coterie.encoders.loading import Encoder, Wanted, load_encoder
from coterie.encoders.store import CHUNK, NO_DIGEST, Chunk, Job, Known, Store
from coterie.isolation import Threads
from coterie.records.features import FORMAT
from coterie.types import InputError, Items, ItemSpec, Source

# The digest of a picture, and its embedding (in between its pixels), or why it has none.
Seen = tuple[bytes, NDArray[Any] | str]
LARGEST = float(np.finfo(np.float16).max)
BATCH, BATCH_ON_CARD = 4, 64  # pictures that the encoder sees at once: on a CPU more are slower
REHEARSED = 64  # pictures of a dry run


@dataclass(frozen=True)
class ChunkPlan:
    """All that is needed to make the chunks of a folder of embeddings, in this process or in others."""

    wanted: Wanted
    job: Job
    failures: dict[int, str]  # pictures that the first pass could not read
    rule: ValueRule
    folder: Path


Spread = Callable[[ChunkPlan, Sequence[int]], Iterator[int]]
"""Has these chunks made by other processes, in any order, and yields how many pictures are done each time."""


@dataclass
class Maker:
    """Makes chunks of a plan in a process of its own, which keeps the encoder and known embeddings between chunks."""

    plan: ChunkPlan
    pictures: Pictures
    options: Options

    def __post_init__(self) -> None:
        if self.pictures.stamp != self.plan.job.stamp:
            raise InputError(f"{self.pictures.name} has changed since the command began: run it again.")
        self._encoder = load_encoder(self.plan.wanted)
        if self._encoder.encoding != self.plan.job.encoding:
            raise InputError(f"A worker has other weights of {self._encoder.encoding.encoder} than the command.")
        self._store = Store(self.plan.folder)
        self._store.begin(self.plan.job)
        self._known = self._store.known()

    def __call__(self, numbers: Sequence[int]) -> None:
        """Write the chunks among these that the folder lacks."""
        made = _chunks(
            *(self.pictures, self.plan.failures, self.plan.rule, self._encoder, self._known, self.options),
            [number for number in numbers if not self._store.has(number)],
        )
        with quiet_pillow():
            for number, chunk in made:
                self._store.add(number, chunk)


def embed_pictures(
    pictures: Pictures,
    survey: Survey,
    options: Options,
    wanted: Wanted,
    folder: Path | None,
    path: str = "",
    spread: Spread | None = None,
    lender: Path | None = None,
    encoder: Encoder | None = None,
) -> Source:
    """The embeddings of all pictures that can be read, as a source whose items are the pictures.

    They lie in `folder` (None: in memory), where those of a run before are taken up. `path`: where the pictures lie,
    for the report of a later run. `spread`: who makes them, into the folder. `lender`: a run that embedded pictures, of
    which those of the same content are not embedded again. `encoder`: where it is loaded already. Raises InputError.
    """
    store = Store(folder, lender)
    encoder = load_encoder(wanted) if encoder is None else encoder
    check_encoding(encoder.encoding, options.like, pictures.name)
    failures, rule, values = readable_pictures(pictures, survey, options)
    job = Job(encoder.encoding, values, pictures.stamp, len(pictures.ids))
    store.begin(job)
    numbers = _missing(store, job)
    if spread is not None and folder is not None and numbers:
        _let_make(spread, ChunkPlan(wanted, job, failures, rule, folder), numbers, store, options)
        numbers = []
    with quiet_pillow():
        for number, chunk in _chunks(pictures, failures, rule, encoder, store.known(), options, numbers):
            store.add(number, chunk)
    ids, digests, failed = _gathered(pictures, store, job.count)
    check_share(pictures, failed, options)
    skipped = pictures.skipped(failed)
    notes = [*pictures.notes, *rule.notes, *survey.notes(), note_of(encoder)]
    fingerprint = list_fingerprint(ids, digests)
    if folder is None:
        array = np.concatenate([store.get(number).features for number in range(-(-job.count // CHUNK))])
        source = with_encoding(array, encoder.encoding, values, options, pictures.name)
        source.ids, source.skipped, source.notes = ids, skipped, [*notes, *source.notes]
        source.fingerprint = fingerprint
    else:
        manifest = {
            "format": FORMAT,
            "encoding": asdict(encoder.encoding),
            "low": values[0],
            "high": values[1],
            "n": len(ids),
            "dim": encoder.width,
            "name": pictures.name,
            "origin": pictures.origin,
            "path": path,
            "fingerprint": fingerprint,
            "skipped": [asdict(item) for item in skipped],
            "notes": notes,
            "versions": versions(),
        }
        store.finish(encoder.width, job.count, ids, digests, manifest)
        source = open_features(folder, options, origin=pictures.origin)
    if ids:
        source.pictures = _shown(pictures, survey, failed, rule, options)
    return source


def rehearse(pictures: Pictures, survey: Survey, options: Options, wanted: Wanted) -> Source:
    """A source like that of `embed_pictures`, from a few pictures only, which says how long all would take.

    Raises InputError where too many of all pictures cannot be read.
    """
    failures, *_ = readable_pictures(pictures, survey, options)
    readable = np.setdiff1d(np.arange(len(pictures.ids)), list(failures))
    some = readable[np.unique(np.linspace(0, len(readable) - 1, REHEARSED).astype(np.int64))].tolist()
    few = replace(
        pictures,
        ids=[str(pictures.ids[row]) for row in some],
        load=lambda row: pictures.load(some[row]),
        digest=lambda row: pictures.digest(some[row]),
    )
    begun = time.monotonic()
    encoder = load_encoder(wanted)  # once, however many pictures there are
    loaded = time.monotonic()
    seen = Survey(
        *(survey.widths[some], survey.heights[some], survey.grey[some], survey.wide[some], survey.moving[some]),
        values=survey.values,
        floats=survey.floats,
    )
    source = embed_pictures(few, seen, options, wanted, None, encoder=encoder)
    each = (time.monotonic() - loaded) / len(some)
    assert isinstance(source.items, Embeddings)
    spec, count = source.items.spec, len(readable)
    source.items = Embeddings(source.items.array[np.arange(count) % len(source.items)])
    source.items.spec = spec
    source.ids = [str(pictures.ids[row]) for row in readable.tolist()]
    source.skipped = pictures.skipped(failures)
    source.fingerprint = source.fingerprint if len(some) == count else ""  # that of a few is not that of all
    source.embedding_seconds = loaded - begun + each * count
    return source


def note_of(encoder: Encoder) -> str:
    """What the user should know of the embeddings."""
    said = encoder.encoding
    return f"Pictures were embedded by {said.encoder} ({said.licence}; taught by {said.taught}), {said.size} px."


def _let_make(spread: Spread, plan: ChunkPlan, numbers: list[int], store: Store, options: Options) -> None:
    """Have these chunks made by other processes. Raises InputError for those that the folder lacks afterwards."""
    count = plan.job.count
    done = count - _pictures_in(numbers, count)
    for more in spread(plan, numbers):
        done += more
        options.progress("embedding", done, count)
    if missing := _missing(store, plan.job):
        raise InputError(
            f"{len(missing)} parts were written by workers and are not to be seen in {plan.folder}: give -o on a file "
            "system that all machines share."
        )


def _missing(store: Store, job: Job) -> list[int]:
    """The chunks that the store does not have."""
    return [number for number in range(-(-job.count // CHUNK)) if not store.has(number)]


def _pictures_in(numbers: Sequence[int], count: int) -> int:
    """How many of `count` pictures are in these chunks."""
    return sum(min(CHUNK, count - number * CHUNK) for number in numbers)


def _chunks(
    pictures: Pictures,
    failures: dict[int, str],
    rule: ValueRule,
    encoder: Encoder,
    known: Known,
    options: Options,
    numbers: Sequence[int],
) -> Iterator[tuple[int, Chunk]]:
    """Yield the chunks of these numbers; embeddings that are `known` are not made again."""
    encoding, count = encoder.encoding, len(pictures.ids)
    spec = shown_to(encoding)
    size = BATCH if encoder.device.type == "cpu" else BATCH_ON_CARD

    def one(row: int) -> Seen:
        if row in failures:
            return NO_DIGEST, failures[row]
        try:
            digest = pictures.digest(row)
        except OSError as error:
            return NO_DIGEST, (error.strerror or "cannot be read").lower()
        if digest in known:
            array, place = known[digest]
            return digest, array[place]
        pixels = decode(pictures.load, row, spec, rule)
        return digest, pixels

    def batch(rows: range) -> list[Seen]:
        seen = [one(row) for row in rows]
        fresh = [place for place, (_, found) in enumerate(seen) if isinstance(found, np.ndarray) and found.ndim == 3]
        if fresh:
            # Always a full batch, so that the embedding of a picture does not depend on which others came with it.
            pixels = np.zeros((size, 3, encoding.size, encoding.size), np.uint8)
            for at, place in enumerate(fresh):
                pixels[at] = seen[place][1]
            made = _halved(encoder(torch.from_numpy(pixels)).numpy()[: len(fresh)], encoding.encoder)
            for at, place in enumerate(fresh):
                seen[place] = seen[place][0], made[at]
        return seen

    parts = [
        range(start, min(start + size, (number + 1) * CHUNK, count))
        for number in numbers
        for start in range(number * CHUNK, min((number + 1) * CHUNK, count), size)
    ]
    done = count - sum(map(len, parts))
    threads = 1 if pictures.serial else options.threads
    collected: list[Seen] = []
    for rows, seen in zip(parts, _in_threads(batch, parts, threads, encoder.device), strict=True):
        collected += seen
        done += len(rows)
        options.progress("embedding", done, count)
        if rows.stop % CHUNK == 0 or rows.stop == count:
            yield rows.start // CHUNK, _chunk(collected, encoder.width)
            collected = []


def _halved(made: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """The same in half precision. Raises InputError for what that cannot hold."""
    if not np.isfinite(made).all() or np.abs(made).max(initial=0) >= LARGEST:
        raise InputError(f"The encoder {name} gives numbers that half precision cannot hold: take another.")
    return made.astype(np.float16)


def _in_threads(
    work: Callable[[range], list[Seen]], parts: Sequence[range], threads: int, device: torch.device
) -> Iterator[list[Seen]]:
    """Map over the parts, in order, with a bounded number of results waiting.

    On a CPU each thread decodes and computes for itself: several that share one product wait for each other.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and threads > 1:
        torch.set_num_threads(1)
    waiting: deque[Future[list[Seen]]] = deque()
    pool = Threads(threads)
    try:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _chunk(seen: list[Seen], width: int) -> Chunk:
    """The embeddings of the pictures of a chunk."""
    ok = np.array([not isinstance(found, str) for _, found in seen])
    made = [found for _, found in seen if not isinstance(found, str)]
    features = np.stack(made) if made else np.empty((0, width), np.float16)
    reasons = {place: found for place, (_, found) in enumerate(seen) if isinstance(found, str)}
    return Chunk(features, ok, np.stack([np.frombuffer(digest, np.uint8) for digest, _ in seen]), reasons)


def _gathered(pictures: Pictures, store: Store, count: int) -> tuple[list[str], list[bytes], dict[int, str]]:
    """Ids and digests of the pictures that have an embedding, and why the others have none."""
    ids: list[str] = []
    digests: list[bytes] = []
    failed: dict[int, str] = {}
    for number in range(-(-count // CHUNK)):
        chunk = store.get(number)
        failed |= {number * CHUNK + place: why for place, why in chunk.reasons.items()}
        places = np.flatnonzero(chunk.ok)
        ids += [str(pictures.ids[number * CHUNK + int(place)]) for place in places]
        digests += [chunk.digests[place].tobytes() for place in places]
    return ids, digests, failed


def _shown(pictures: Pictures, survey: Survey, failed: dict[int, str], rule: ValueRule, options: Options) -> Items:
    """The pictures, decoded only when asked for, as by a report; small ones at their own size."""
    rows = np.array([row for row in range(len(pictures.ids)) if row not in failed], np.int64)
    sides = survey.widths[rows], survey.heights[rows]
    one = all(len(np.unique(side)) == 1 for side in sides) and max(int(side.max()) for side in sides) <= SHOWN
    width, height = (int(sides[0][0]), int(sides[1][0])) if one else (SHOWN, SHOWN)
    spec = ItemSpec("images", channels=3, height=height, width=width)
    threads = 1 if pictures.serial else options.threads
    return DecodedImages(pictures.load, rows, pictures.ids, spec, threads, rule)


def versions() -> dict[str, str]:
    """The versions of what an embedding may depend on."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "timm", "pillow", "numpy")}
    return {"coterie": __version__, **found}
