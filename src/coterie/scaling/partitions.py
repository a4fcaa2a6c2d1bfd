"""A result in partitions: how a source is cut, the files of its parts, and the one table that they make.

A part is a Parquet file, written whole or not at all. Its metadata say of which job it is and what was left out, so the
files that are there are all that a job which was stopped needs in order to go on.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import printable, replacing, write_atomically
from coterie.records.table import numbers
from coterie.types import InputError, ItemSpec, Skipped

if TYPE_CHECKING:
    import pyarrow as pa

MARK = b"coterie.part"
NAME = re.compile(r"part-\d{6,}\.parquet")
LEAST, BYTES = 32, 64 << 20  # parts of a large source, at least; bytes of the items of one, about
STEP = 256  # items; parts are whole chunks of a prediction
LISTED = 20  # different notes that are kept


@dataclass(frozen=True)
class Cut:
    """`count` items in parts of `size`, the last of which may be shorter."""

    count: int
    size: int

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def range(self, number: int) -> tuple[int, int]:
        """The first item of a part, and the one after its last."""
        return number * self.size, min(self.count, (number + 1) * self.size)


def cut(count: int, spec: ItemSpec) -> Cut:
    """Parts of about 64 MiB of items, but at least 32 of them as long as each has 256 items.

    200,000 embeddings of 384 numbers are cut into 32 parts of 6,400.
    """
    item = 4 * spec.dim if spec.kind == "embeddings" else spec.channels * spec.height * spec.width
    most = max(1, BYTES // max(1, item) // STEP)
    return Cut(count, STEP * min(most, max(1, -(-count // (LEAST * STEP)))))


@dataclass(frozen=True)
class Part:
    """What is known of a part that is done."""

    number: int
    rows: int
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def said(self) -> str:
        """The part as a text."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, said: str) -> Part:
        """The part from the text that `said` wrote."""
        facts = json.loads(said)
        return cls(facts["number"], facts["rows"], [Skipped(**item) for item in facts["skipped"]], facts["notes"])


@dataclass(frozen=True)
class Parts:
    """The files of one job in a folder; `key` says which job it is."""

    folder: Path
    key: str
    cut: Cut

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def begin(self, *, own: bool) -> None:
        """Make the folder. Raises InputError where it cannot be, and for files in it of which a user may want some.

        `own`: the folder is the command's own, where parts of another job are of no use to anyone.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            inside = sorted(entry.name for entry in os.scandir(self.folder))
        except OSError as error:
            raise InputError(f"The folder {self.folder} cannot be used ({error.strerror}): choose another.") from error
        for name in inside:
            if _unfinished(name):
                (self.folder / name).unlink(missing_ok=True)
            elif not NAME.fullmatch(name):
                raise InputError(f"{self.folder} holds {printable(name)!r}, which is no part: choose another folder.")
            elif not own and _facts(self.folder / name).get("key") != self.key:
                raise InputError(
                    f"{self.folder} holds parts of another prediction ({name}): choose another folder, or remove it."
                )

    def write(self, part: Part, table: pa.Table) -> None:
        """Write a part with its table."""
        import pyarrow.parquet as pq

        facts = {**asdict(part), "key": self.key, "of": len(self.cut)}
        metadata = {**(table.schema.metadata or {}), MARK: json.dumps(facts).encode()}
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        write_atomically(self.path(part.number), sink.getvalue())

    def done(self, number: int) -> Part | None:
        """A finished part of this job; None where it is missing, damaged, or of another job."""
        facts = _facts(self.path(number))
        if facts.get("key") != self.key or facts.get("number") != number:
            return None
        return Part.of(json.dumps(facts))

    def missing(self) -> list[int]:
        """The parts that are still to be made."""
        return [number for number in range(len(self.cut)) if self.done(number) is None]

    def all_done(self) -> list[Part]:
        """Every part. Raises InputError where one is missing, as when workers write to another disk."""
        found = [self.done(number) for number in range(len(self.cut))]
        for number, part in enumerate(found):
            if part is None:
                raise InputError(
                    f"{self.path(number)} was written by a worker and is not to be seen here: give -o on a file system "
                    "that all machines share."
                )
        return [part for part in found if part is not None]

    def tables(self) -> Iterator[pa.Table]:
        """The tables of all parts that have rows, in order, with the metadata of a result."""
        import pyarrow.parquet as pq

        for part in self.all_done():
            if part.rows:
                with open(self.path(part.number), "rb") as file:
                    table = pq.read_table(file)
                kept = {name: value for name, value in table.schema.metadata.items() if name != MARK}
                yield table.replace_schema_metadata(kept)

    def fill_empty(self) -> None:
        """Give parts without rows the columns of the others: readers of a folder take those of its first file."""
        schema = next(self.tables()).schema
        for part in self.all_done():
            if not part.rows:
                self.write(part, schema.empty_table())

    def column(self, name: str) -> NDArray[Any]:
        """One column of numbers, of all parts."""
        import pyarrow.parquet as pq

        found = []
        for part in self.all_done():
            if part.rows:
                with open(self.path(part.number), "rb") as file:
                    found.append(numbers(pq.read_table(file, columns=[name])[name]))
        return np.concatenate(found)

    def labels_used(self) -> int:
        """How many judged labels the confidences stand on, by the metadata of the parts."""
        metadata = next(self.tables()).schema.metadata
        return int(metadata.get(b"coterie.labels_used", b"0"))

    def merge(self, out: Path) -> None:
        """Write all rows to one table, a part at a time, in place of any that is there, and remove the parts."""
        import pyarrow.parquet as pq

        with (
            replacing(out) as beside,
            open(beside, "wb") as file,
        ):  # pyarrow itself opens no path that is in no encoding
            writer: Any = None
            for table in self.tables():
                writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
            writer.close()
        self.remove()

    def remove(self) -> None:
        """Remove the parts and their folder."""
        for entry in list(os.scandir(self.folder)):
            if NAME.fullmatch(entry.name) or _unfinished(entry.name):
                os.unlink(entry.path)
        self.folder.rmdir()


def _unfinished(name: str) -> bool:
    """Whether a file is an unfinished part, left by a worker that ended."""
    return re.fullmatch(r"\.part-\d{6,}\.parquet\.\d+\.part", name) is not None


def _facts(path: Path) -> dict[str, Any]:
    """The metadata of a part; empty where the part is missing or incomplete."""
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as file:
            found: dict[str, Any] = json.loads((pq.read_schema(file).metadata or {})[MARK])
            return found
    except Exception:  # no such file, no Parquet, no mark
        return {}


def notes_of(parts: list[Part]) -> list[str]:
    """The different notes of all parts, in order, the first of them."""
    return list(dict.fromkeys(note for part in parts for note in part.notes))[:LISTED]
