"""The finished run that is reviewed: ids, labels and probabilities of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.fingerprint import file_digest
from coterie.records.group_names import groups_of_model
from coterie.records.rows import outside_of
from coterie.records.table import numbers, open_table
from coterie.report.read import ReadRun, read_finished
from coterie.types import InputError

Ids = Sequence[str] | Sequence[int] | NDArray[Any]
BLOCK = 8192  # rows whose probabilities are worked on at a time
DENSE_UP_TO = 1 << 25  # probabilities kept in memory, 128 MB; larger tables are read again


@dataclass(frozen=True)
class Base:
    """A finished run's result: ids, labels (n,), confidences (n,), and the probabilities by blocks of rows."""

    path: Path
    folder: ReadRun
    sha256: str
    ids: list[str]
    labels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    k: int

    @property
    def n(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the data that the run was fitted on."""
        found = (self.folder.run.get("source") or {}).get("fingerprint")
        return str(found) if found is not None else None

    @cached_property
    def names(self) -> dict[int, str]:
        """Names of groups that the model had before the review."""
        return groups_of_model(self.path)[0]

    @cached_property
    def outside(self) -> NDArray[np.bool_]:
        """Rows (n,) far outside all others: they look sure, whatever they are, and are accepted at no threshold."""
        return outside_of(self.folder.run, self.n)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Rows by id."""
        return {name: row for row, name in enumerate(self.ids)}

    def rows(self, ids: Ids) -> NDArray[np.int64]:
        """The rows of these ids; numbers are rows already. Raises InputError for one that is not there."""
        given: list[Any] = [ids] if isinstance(ids, str) else list(ids)  # a text is an id, and no list of letters
        if all(isinstance(item, int | np.integer) for item in given):
            if given and not 0 <= min(given) <= max(given) < self.n:
                raise InputError(f"Rows go from 0 to {self.n - 1}.")
            return np.array(given, np.int64)
        names = [str(item) for item in given]
        missing = [name for name in names if name not in self.row_of]
        if missing:
            raise InputError(f"{len(missing)} ids are not in the run, the first is {missing[0]!r}.")
        return np.array([self.row_of[name] for name in names], np.int64)

    def probabilities(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """(m, k) of some rows."""
        if self._dense is not None:
            return self._dense[rows]
        found = np.empty((len(rows), self.k), np.float32)
        order = np.argsort(rows, kind="stable")
        for start, block in self.blocks():
            first, last = np.searchsorted(rows[order], [start, start + len(block)])
            found[order[first:last]] = block[rows[order[first:last]] - start]
        return found

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, probabilities (m, k)) of all items, a block of rows at a time."""
        if self._dense is not None:
            for start in range(0, self.n, BLOCK):
                yield start, self._dense[start : start + BLOCK]
        else:
            yield from self._read_blocks()

    @cached_property
    def _dense(self) -> NDArray[np.float32] | None:
        if self.n * self.k > DENSE_UP_TO:
            return None
        whole = np.empty((self.n, self.k), np.float32)
        for start, block in self._read_blocks():
            whole[start : start + len(block)] = block
        return whole

    def _read_blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        path, start = self.path / "result.parquet", 0
        with open_table(path) as file:
            names = file.schema_arrow.names
            dense = "probabilities" in names
            wanted = ["probabilities"] if dense else ["top_labels", "top_probabilities", "remainder"]
            if not set(wanted) <= set(names):
                raise InputError(f"{path} holds no probabilities, so it cannot be reviewed: fit the run again.")
            for batch in file.iter_batches(batch_size=BLOCK, columns=wanted):
                size = len(batch)
                columns = [
                    numbers(batch.column(name).flatten()).reshape(size, -1)
                    if name != "remainder"
                    else numbers(batch.column(name))
                    for name in wanted
                ]
                if dense:
                    block = columns[0].astype(np.float32)
                else:
                    left = max(1, self.k - columns[0].shape[1])
                    block = np.repeat((columns[2] / left)[:, None], self.k, axis=1).astype(np.float32)
                    np.put_along_axis(block, columns[0].astype(np.int64), columns[1].astype(np.float32), axis=1)
                if block.shape[1] != self.k:
                    raise InputError(f"{path} has probabilities of {block.shape[1]} groups, the run has {self.k}.")
                yield start, block
                start += size

    @cached_property
    def likeliest(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The three likeliest groups of every item and their probabilities, (n, 3) each, or fewer columns."""
        width = min(3, self.k)
        groups, values = np.empty((self.n, width), np.int32), np.empty((self.n, width), np.float32)
        for start, block in self.blocks():
            top = np.argsort(-block, axis=1, kind="stable")[:, :width]
            groups[start : start + len(block)] = top
            values[start : start + len(block)] = np.take_along_axis(block, top, axis=1)
        return groups, values

    @cached_property
    def ood_score(self) -> NDArray[np.float32] | None:
        return self._column("ood_score")

    @cached_property
    def embedding(self) -> NDArray[np.float32] | None:
        """The embedding that the run stored, if it did."""
        found = self._column("embedding")
        return None if found is None else found.reshape(self.n, -1)

    def _column(self, name: str) -> NDArray[np.float32] | None:
        with open_table(self.path / "result.parquet") as file:
            if name not in file.schema_arrow.names:
                return None
            column = file.read(columns=[name])[name].combine_chunks()
            flat = column.flatten() if hasattr(column, "flatten") and column.type.num_fields else column
            return np.asarray(numbers(flat), np.float32)


def read_base(run: Path) -> Base:
    """The result of a finished run. Raises InputError for a run that is not finished or cannot be read."""
    folder, result = read_finished(run)
    with open_table(run / "result.parquet", "id") as file:
        ids = file.read(columns=["id"])["id"].to_pylist()
    return Base(
        run, folder, file_digest(run / "result.parquet"), ids, result.labels, result.confidence, folder.n_clusters
    )
