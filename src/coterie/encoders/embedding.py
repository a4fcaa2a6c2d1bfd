"""Pictures -> embeddings: of a source of pictures, one whose items are what an encoder makes of them."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from coterie._version import __version__
from coterie.data.decode import quiet_pillow
from coterie.data.feature_folders import SHOWN, check_encoding, open_features, with_encoding
from coterie.data.fingerprint import list_fingerprint
from coterie.data.items import DecodedImages, Embeddings
from coterie.data.picture_form import Options
from coterie.data.pictures import Pictures, check_share, readable_pictures
from coterie.data.pixel_values import ValueRule
from coterie.data.survey import Survey
from coterie.encoders.chunks import ChunkMaker
from coterie.encoders.loading import Encoder, load_encoder
from coterie.encoders.resolving import Wanted
from coterie.encoders.store import EmbeddingJob, Store
from coterie.records.features import FORMAT
from coterie.types import InputError, Items, ItemSpec, Source

REHEARSED = 64  # pictures of a dry run


@dataclass(frozen=True)
class ChunkPlan:
    """All that is needed to make the chunks of a folder of embeddings, in this process or in others."""

    wanted: Wanted
    job: EmbeddingJob
    failures: dict[int, str]  # pictures that the first pass could not read
    rule: ValueRule
    folder: Path


Spread = Callable[[ChunkPlan, Sequence[int]], Iterator[int]]
"""Has these chunks made by other processes, in any order, and yields how many pictures are done each time."""


@dataclass
class ChunkWorker:
    """Makes chunks of a plan in a process of its own, which keeps the encoder and known embeddings between chunks."""

    plan: ChunkPlan
    pictures: Pictures
    options: Options

    def __post_init__(self) -> None:
        if self.pictures.stamp != self.plan.job.stamp:
            raise InputError(f"{self.pictures.name} has changed since the command began: run it again.")
        plan, encoder = self.plan, load_encoder(self.plan.wanted)
        if encoder.encoding != plan.job.encoding:
            raise InputError(f"A worker has other weights of {encoder.encoding.encoder} than the command.")
        self._store = Store(plan.folder)
        self._store.begin(plan.job)
        known = self._store.known()
        self._make = ChunkMaker(plan.job, self.pictures, plan.failures, plan.rule, encoder, known, self.options)

    def __call__(self, numbers: Sequence[int]) -> None:
        """Write the chunks among these that the folder lacks."""
        missing = [number for number in numbers if not self._store.has(number, self.plan.failures)]
        with quiet_pillow():
            for number, chunk in self._make(missing):
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
    job = EmbeddingJob(encoder.encoding, values, pictures.stamp, len(pictures.ids))
    store.begin(job)
    numbers = store.missing(failures)
    if spread is not None and folder is not None and numbers:
        _let_make(spread, ChunkPlan(wanted, job, failures, rule, folder), numbers, store, options)
        numbers = []
    make = ChunkMaker(job, pictures, failures, rule, encoder, store.known(), options)
    with quiet_pillow():
        for number, chunk in make(numbers):
            store.add(number, chunk)
    ids, digests, failed = _gathered(pictures, store)
    check_share(pictures, failed, options)
    skipped = pictures.skipped(failed)
    notes = [*pictures.notes, *rule.notes, *survey.notes(), note_of(encoder)]
    fingerprint = list_fingerprint(ids, digests)
    if folder is None:
        array = np.concatenate([store.get(number).features for number in job.chunks])
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
        store.finish(encoder.width, ids, digests, manifest)
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
    done = count - plan.job.pictures_in(numbers)
    for more in spread(plan, numbers):
        done += more
        options.progress("embedding", done, count)
    if missing := store.missing():
        raise InputError(
            f"{len(missing)} parts were written by workers and are not to be seen in {plan.folder}: give -o on a file "
            "system that all machines share."
        )


def _gathered(pictures: Pictures, store: Store) -> tuple[list[str], list[bytes], dict[int, str]]:
    """Ids and digests of the pictures that have an embedding, and why the others have none."""
    ids: list[str] = []
    digests: list[bytes] = []
    failed: dict[int, str] = {}
    for number in store.job.chunks:
        chunk, rows = store.get(number), store.job.rows(number)
        failed |= {rows[place]: why for place, why in chunk.reasons.items()}
        places = np.flatnonzero(chunk.ok)
        ids += [str(pictures.ids[rows[int(place)]]) for place in places]
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
