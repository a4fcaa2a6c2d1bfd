"""Embeddings on disk: parts while the encoder runs, one file when it is done.

A part holds the embeddings of `CHUNK` pictures in a row and is written whole or not at all, so a run that was killed
goes on after the last one, and its batches are those of a run that was not: the result is the same file, bit for bit.
Embeddings of a folder that has changed since are found again by the content of the pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import remove_parts, replacing, write_atomically
from coterie.data.feature_folders import encoding_of, read_items
from coterie.records.features import FEATURES, FORMAT, ITEMS, MANIFEST, PARTS, holds_features, read_features
from coterie.types import Encoding, InputError

CACHE = Path("cache", "features")  # of a run folder
CHUNK = 64  # pictures of a part: what a kill costs at most
NO_DIGEST = bytes(32)  # of a file that could not be read
PART = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}-\d{6,}\.npz")

Known = dict[bytes, tuple[NDArray[np.float16], int]]


@dataclass(frozen=True)
class Chunk:
    """The embeddings of some pictures in a row: (m, d), one for each that is `ok` (c,), and why the others are not."""

    features: NDArray[np.float16]
    ok: NDArray[np.bool_]
    digests: NDArray[np.uint8]  # (c, 32), SHA-256 of the pictures
    reasons: dict[int, str] = field(default_factory=dict)  # by their place in the chunk

    def packed(self) -> bytes:
        buffer = io.BytesIO()
        reasons = np.frombuffer(json.dumps(self.reasons).encode(), np.uint8)
        np.savez(buffer, features=self.features, ok=self.ok, digests=self.digests, reasons=reasons)
        return buffer.getvalue()


@dataclass(frozen=True)
class EmbeddingJob:
    """One source by one encoder."""

    encoding: Encoding
    values: tuple[float, float]  # `low` and `high` of `types.ItemSpec`
    stamp: str  # of the source
    count: int  # pictures, readable or not

    @property
    def by(self) -> str:
        """What must be equal for embeddings to be usable together."""
        encoding = {name: value for name, value in asdict(self.encoding).items() if name not in ("encoder", "origin")}
        return _short((encoding, self.values, FORMAT))

    @property
    def chunks(self) -> range:
        """The numbers of its chunks."""
        return range(-(-self.count // CHUNK))

    def rows(self, number: int) -> range:
        """The pictures of a chunk."""
        return range(number * CHUNK, min((number + 1) * CHUNK, self.count))

    def pictures_in(self, numbers: Iterable[int]) -> int:
        """How many pictures these chunks have."""
        return sum(len(self.rows(number)) for number in numbers)

    @property
    def key(self) -> str:
        return f"{self.by}-{_short((self.stamp, self.count, CHUNK))}"


def _short(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


class Store:
    """A folder of embeddings, or (folder None) memory. `lender`: a run whose embeddings may be taken up, too."""

    def __init__(self, folder: Path | None, lender: Path | None = None) -> None:
        self.folder, self.lender = folder, lender
        self.chunks: dict[int, Chunk] = {}

    def begin(self, job: EmbeddingJob) -> None:
        """Make the folder. Raises InputError where it holds something else, or embeddings of another encoder."""
        self.job = job
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            inside = {entry.name for entry in os.scandir(self.folder)}
        except OSError as error:
            raise InputError(f"The folder {self.folder} cannot be used ({error.strerror}): choose another.") from error
        remove_parts(self.folder)
        remove_parts(self.folder / PARTS)
        foreign = {name for name in inside if name not in (FEATURES, ITEMS, MANIFEST, PARTS) and name[:1] != "."}
        if foreign:
            raise InputError(f"{self.folder} holds {min(foreign)!r}, which is no embedding: choose another folder.")
        if holds_features(self.folder):
            before = _made_by(self.folder)
            if before.by != job.by:
                raise InputError(
                    f"{self.folder} holds embeddings of {before.encoding.encoder} that were made otherwise than asked "
                    f"for now ({_difference(before, job)}): choose another folder."
                )

    def known(self) -> Known:
        """Embeddings by their pictures' content: of the lender, of the folder as it was, of runs that did not end."""
        found: Known = {}
        if self.lender is not None and holds_features(self.lender / CACHE):
            with contextlib.suppress(InputError):
                if _made_by(self.lender / CACHE).by == self.job.by:
                    found |= _kept(self.lender / CACHE)
        if self.folder is None:
            return found
        for path in sorted((self.folder / PARTS).glob(f"{self.job.by}-*.npz")):
            chunk = None if path.name.startswith(self.job.key) else self._read(path)
            if chunk is not None:
                digests = chunk.digests[chunk.ok]
                found |= {digest.tobytes(): (chunk.features, row) for row, digest in enumerate(digests)}
        if holds_features(self.folder):
            found |= _kept(self.folder)
        return found

    def has(self, number: int, unreadable: Container[int] | None = None) -> bool:
        """Whether a chunk is done. A part that cannot be read is not.

        unreadable: the pictures that cannot be read now. A part that lacks others is not done: a disk that was away
        when it was made is back.
        """
        chunk = self.chunks.get(number) if self.folder is None else self._read(self._part(number))
        if chunk is None or unreadable is None:
            return chunk is not None
        rows = self.job.rows(number)
        # With a digest it was read, and is damaged: its content has not changed.
        return all(chunk.digests[place].any() or rows[place] in unreadable for place in chunk.reasons)

    def missing(self, unreadable: Container[int] | None = None) -> list[int]:
        """The chunks that are not done."""
        return [number for number in self.job.chunks if not self.has(number, unreadable)]

    def add(self, number: int, chunk: Chunk) -> None:
        """Keep a chunk that is done."""
        if self.folder is None:
            self.chunks[number] = chunk
        else:
            write_atomically(self._part(number), chunk.packed())

    def get(self, number: int) -> Chunk:
        """A chunk that is done. Raises InputError where its file has changed since."""
        found = self.chunks[number] if self.folder is None else self._read(self._part(number))
        if found is None:
            raise InputError(f"{self._part(number)} has changed while it was in use: run again.")
        return found

    def _part(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / PARTS / f"{self.job.key}-{number:06d}.npz"

    def _read(self, path: Path) -> Chunk | None:
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                reasons = {int(place): why for place, why in json.loads(file["reasons"].tobytes()).items()}
                chunk = Chunk(file["features"], file["ok"], file["digests"], reasons)
        except Exception:  # whatever damage makes of a file
            return None
        fits = chunk.features.dtype == np.float16 and len(chunk.features) == int(chunk.ok.sum())
        return chunk if fits and chunk.digests.shape == (len(chunk.ok), 32) else None

    def finish(self, width: int, ids: list[str], digests: list[bytes], manifest: dict[str, Any]) -> None:
        """Write embeddings, items and, last, the manifest: a folder without it counts as unfinished."""
        assert self.folder is not None
        import pyarrow as pa
        import pyarrow.parquet as pq

        header = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": (len(ids), width)}
        # Written, not mapped: a full disk is an error here, and in a map a signal that ends the process.
        with replacing(self.folder / FEATURES) as beside, open(beside, "wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            for number in self.job.chunks:
                out.write(self.get(number).features.tobytes())
            (self.folder / MANIFEST).unlink(missing_ok=True)
        buffer = io.BytesIO()
        table = pa.table({"id": pa.array(ids, pa.string()), "digest": pa.array(digests, pa.binary())})
        pq.write_table(table, buffer)
        write_atomically(self.folder / ITEMS, buffer.getvalue())
        write_atomically(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for file in _parts_in(self.folder):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.folder / PARTS).rmdir()


def check_own(folder: Path) -> None:
    """Raise InputError where embeddings in a folder would replace a file there that coterie did not write."""
    there = [name for name in (FEATURES, ITEMS, MANIFEST) if os.path.lexists(folder / name)]
    if there and not holds_features(folder) and not _parts_in(folder):  # what a kill leaves has parts
        raise InputError(f"{folder} holds {there[0]!r}, which coterie did not write: choose another folder.")


def _parts_in(folder: Path) -> list[Path]:
    """The parts of any job."""
    return [path for path in (folder / PARTS).glob("*.npz") if PART.fullmatch(path.name)]


def _made_by(folder: Path) -> EmbeddingJob:
    """How the embeddings of a folder were made. Raises InputError where its manifest cannot be read."""
    there = read_features(folder)
    return EmbeddingJob(encoding_of(there.encoding), (there.low, there.high), "", 0)


def _kept(folder: Path) -> Known:
    """The embeddings of a folder by the content of their pictures; none where it is damaged."""
    with contextlib.suppress(InputError, OSError, ValueError):
        array = np.load(folder / FEATURES, mmap_mode="r")
        _, digests = read_items(folder)
        if array.dtype == np.float16 and array.ndim == 2 and len(array) == len(digests):
            return {digest: (array, row) for row, digest in enumerate(digests) if digest != NO_DIGEST}
    return {}


def lend(run: Path, other: Path) -> None:
    """Let a new run reuse the embeddings that another run made of the same source."""
    lend_to(run, other / CACHE)


def lend_to(run: Path, target: Path) -> None:
    """As `lend`, into the folder `target`."""
    source = run / CACHE
    if not holds_features(source) or target.exists():
        return
    target.mkdir(parents=True)
    for name in (FEATURES, ITEMS, MANIFEST):
        try:
            os.link(source / name, target / name)  # safe, for these files are only ever replaced
        except OSError:
            shutil.copyfile(source / name, target / name)


def _difference(before: EmbeddingJob, now: EmbeddingJob) -> str:
    """How two jobs differ, in a few words."""
    was, asked = asdict(before.encoding), asdict(now.encoding)
    for name in was:
        typed = name == "encoder" and was["weights"] == asked["weights"]  # one encoder, by two paths
        if name != "origin" and not typed and was[name] != asked[name]:
            return f"{name} {str(was[name])[:40]}, not {str(asked[name])[:40]}"
    return f"pixel values from {before.values}, not {now.values}"
