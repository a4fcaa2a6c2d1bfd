"""Pictures -> embeddings: decoded by threads, seen by the encoder in batches, kept part by part."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import coterie
from coterie.data.decode import Framing, decode, quiet_pillow
from coterie.data.feature_folders import SHOWN, check_encoding, open_features, with_encoding
from coterie.data.fingerprint import list_fingerprint
from coterie.data.forms import Options
from coterie.data.items import DecodedImages, Embeddings
from coterie.data.pictures import Pictures, check_share, readable_pictures
from coterie.data.survey import Survey, spans
from coterie.data.values import ValueRule
from coterie.encoders.loading import Encoder, Wanted, load_encoder
from coterie.encoders.store import CHUNK, NO_DIGEST, Chunk, Job, Known, Store
from coterie.records.features import FORMAT
from coterie.types import InputError, Items, ItemSpec, Skipped, Source

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
LARGEST = float(np.finfo(np.float16).max)
BATCH = {"cpu": 32}  # pictures that the encoder sees at once
BATCH_ELSEWHERE = 256
REHEARSED = 64  # pictures of a dry run


def embed_pictures(
    pictures: Pictures, survey: Survey, options: Options, wanted: Wanted, folder: Path | None, path: str = ""
) -> Source:
    """The embeddings of all pictures that can be read, as a source whose items are the pictures.

    They lie in `folder` (None: in memory), where those of a run before are taken up. `path`: where the pictures lie,
    for the report of a later run. Raises InputError.
    """
    store = Store(folder)
    before = store.precision_before()
    if wanted.precision == "auto" and before is not None:
        wanted = replace(wanted, precision="bf16" if before == "bf16" else "fp32")
    encoder = load_encoder(wanted)
    check_encoding(encoder.encoding, options.like, pictures.name)
    failures, rule, values = readable_pictures(pictures, survey, options)
    job = Job(encoder.encoding, values, encoder.precision, pictures.stamp, len(pictures.ids))
    store.begin(job)
    with quiet_pillow():
        for number, chunk in _chunks(pictures, failures, rule, encoder, store, options):
            store.add(number, chunk)
    ids, digests, failed = _gathered(pictures, store, job.count)
    check_share(pictures, failed, options)
    skipped = [Skipped(str(pictures.ids[row]), why) for row, why in sorted(failed.items())] + pictures.locked
    notes = [*pictures.notes, *rule.notes, *survey.notes(), note_of(encoder)]
    if folder is None:
        array = np.concatenate([store.get(number).features for number in range(-(-job.count // CHUNK))])
        source = with_encoding(array, encoder.encoding, values, options, pictures.name)
        source.ids, source.skipped, source.notes = ids, skipped, [*notes, *source.notes]
        source.fingerprint = list_fingerprint(ids, digests)
    else:
        manifest = {
            "format": FORMAT,
            "encoding": asdict(encoder.encoding),
            "low": values[0],
            "high": values[1],
            "precision": encoder.precision,
            "n": len(ids),
            "dim": encoder.width,
            "name": pictures.name,
            "origin": pictures.origin,
            "path": path,
            "fingerprint": list_fingerprint(ids, digests),
            "skipped": [asdict(item) for item in skipped],
            "notes": notes,
            "versions": versions(),
        }
        store.finish(encoder.width, job.count, ids, digests, manifest)
        source = open_features(folder, options, origin=pictures.origin)
    source.pictures = _shown(pictures, survey, failed, rule, options)
    return source


def rehearse(pictures: Pictures, survey: Survey, options: Options, wanted: Wanted) -> Source:
    """What `embed_pictures` would give, made of a few pictures over and over, with a note of how long all will take."""
    readable = np.flatnonzero(survey.widths > 0)
    some = readable[np.unique(np.linspace(0, len(readable) - 1, REHEARSED).astype(np.int64))].tolist()
    few = replace(
        pictures,
        ids=[str(pictures.ids[row]) for row in some],
        load=lambda row: pictures.load(some[row]),
        digest=lambda row: pictures.digest(some[row]),
    )
    begun = time.monotonic()
    seen = Survey(
        *(survey.widths[some], survey.heights[some], survey.grey[some], survey.wide[some], survey.moving[some]),
        values=survey.values,
        floats=survey.floats,
    )
    source = embed_pictures(few, seen, options, wanted, None)
    each = (time.monotonic() - begun) / len(some)
    assert isinstance(source.items, Embeddings)
    spec, count = source.items.spec, len(readable)
    source.items = Embeddings(source.items.array[np.arange(count) % len(source.items)])
    source.items.spec = spec
    source.ids = [str(pictures.ids[row]) for row in readable.tolist()]
    source.notes.append(f"Embedding {count:,} pictures will take about {each * count:,.0f} s.")
    return source


def note_of(encoder: Encoder) -> str:
    """What the user should know of the embeddings."""
    said = encoder.encoding
    return f"Pictures were embedded by {said.encoder} ({said.licence}; taught by {said.taught}), {said.size} px."


def _chunks(
    pictures: Pictures, failures: dict[int, str], rule: ValueRule, encoder: Encoder, store: Store, options: Options
) -> Iterator[tuple[int, Chunk]]:
    """Yield the chunks that the store does not have."""
    encoding, count, known = encoder.encoding, len(pictures.ids), store.known()
    spec = ItemSpec("images", channels=3, height=encoding.size, width=encoding.size)
    framing = Framing(encoding.crop, encoding.squash, RESAMPLING[encoding.interpolation])
    numbers = [number for number in range(-(-count // CHUNK)) if not store.has(number)]
    rows = [row for number in numbers for row in range(number * CHUNK, min((number + 1) * CHUNK, count))]
    done_before = count - len(rows)

    def one(place: int) -> tuple[bytes, NDArray[np.uint8] | str | None]:
        """The digest of a picture, and its pixels, why it has none, or None where its embedding is known."""
        row = rows[place]
        if row in failures:
            return NO_DIGEST, failures[row]
        try:
            digest = pictures.digest(row)
        except OSError as error:
            return NO_DIGEST, (error.strerror or "cannot be read").lower()
        if digest in known:
            return digest, None
        return digest, decode(pictures.load, row, spec, rule, framing)

    def progress(doing: str, done: int, total: int) -> None:
        options.progress(doing, done_before + done, count)

    threads = 1 if pictures.serial else options.threads
    seen = spans(one, len(rows), threads, "embedding", progress)
    for number in numbers:
        size = min(CHUNK, count - number * CHUNK)
        yield number, _chunk([next(seen) for _ in range(size)], encoder, known)
    for _ in seen:  # lets the last progress be told
        pass


def _chunk(seen: list[tuple[bytes, NDArray[np.uint8] | str | None]], encoder: Encoder, known: Known) -> Chunk:
    """The embeddings of the pictures of a chunk."""
    size = BATCH.get(encoder.device.type, BATCH_ELSEWHERE)
    made = np.zeros((len(seen), encoder.width), np.float16)
    ok = np.array([not isinstance(pixels, str) for _, pixels in seen])
    reasons = {place: pixels for place, (_, pixels) in enumerate(seen) if isinstance(pixels, str)}
    fresh = [(place, pixels) for place, (_, pixels) in enumerate(seen) if isinstance(pixels, np.ndarray)]
    for start in range(0, len(fresh), size):
        batch = fresh[start : start + size]
        found = encoder(torch.from_numpy(np.stack([pixels for _, pixels in batch]))).numpy()
        if not np.isfinite(found).all() or np.abs(found).max() >= LARGEST:
            raise InputError(
                f"The encoder {encoder.encoding.encoder} gives numbers that half precision cannot hold: take another."
            )
        made[[place for place, _ in batch]] = found.astype(np.float16)
    for place, (digest, pixels) in enumerate(seen):
        if pixels is None:
            array, row = known[digest]
            made[place] = array[row]
    digests = np.stack([np.frombuffer(digest, np.uint8) for digest, _ in seen])
    return Chunk(made[ok], ok, digests, reasons)


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
    """The pictures themselves, decoded when a report wants some of them; small ones at their own size."""
    rows = np.array([row for row in range(len(pictures.ids)) if row not in failed], np.int64)
    sides = survey.widths[rows], survey.heights[rows]
    one = all(len(np.unique(side)) == 1 for side in sides) and max(int(side.max()) for side in sides) <= SHOWN
    width, height = (int(sides[0][0]), int(sides[1][0])) if one else (SHOWN, SHOWN)
    spec = ItemSpec("images", channels=3, height=height, width=width)
    threads = 1 if pictures.serial else options.threads
    return DecodedImages(pictures.load, rows, pictures.ids, spec, threads, rule)


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "timm", "pillow", "numpy")}
    return {"coterie": coterie.__version__, **found}
