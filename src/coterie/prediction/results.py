"""The result table: one row per item, with its group, its confidence and its probabilities."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coterie.common.outputs import printable, write_atomically
from coterie.common.words import counted, limit
from coterie.records.table import check_ids, labels_of, numbers, open_table
from coterie.types import Assignments, InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

MARK = b"coterie.table"  # metadata of every table that coterie writes
ALL_UP_TO = 256  # groups; above it the table holds the TOP most probable ones and the remainder
TOP = 32
MOST_GROUPS = 1_000_000
ROUNDING = 1e-2  # rows are float32, of heads that may have been read in bfloat16
COLUMNS = {
    *("id", "label", "confidence", "probabilities", "top_labels", "top_probabilities", "remainder", "ood_score"),
    "embedding",
}


@dataclass(repr=False)
class ResultTable:
    """A result as arrays: ids, labels (n,), confidence (n,), probabilities by head, each (n, k)."""

    ids: list[str]
    labels: np.ndarray
    confidence: np.ndarray
    heads: dict[str, np.ndarray]
    embedding: np.ndarray | None = None
    ood_score: np.ndarray | None = None  # (n,), larger means more like the fitted items

    @property
    def k(self) -> int:
        """The number of groups."""
        return int(next(iter(self.heads.values())).shape[1])

    def __repr__(self) -> str:
        n, mean = len(self.ids), limit(float(np.mean(self.confidence, dtype=np.float64)), 2)
        return f"<ResultTable: {n:,} items in {counted(self.k, 'group')}, mean confidence {mean}>"


def write_result(path: Path, result: Assignments, *, labels_used: int = 0) -> None:
    """Write `id`, `label`, `confidence`, `probabilities` (and `probabilities_<head>`, `embedding`) as Parquet.

    Of several out-of-distribution scores `ood_score` is the first; the metadata `coterie.ood_score` names it.
    The metadata `coterie.labels_used` says how many judged items the confidences stand on, where they do.
    With more than 256 groups `top_labels`, `top_probabilities` and `remainder` stand in place of the probabilities.
    Raises InputError where another file is in the place.
    """
    if os.path.lexists(path) and not is_ours(path):
        raise InputError(f"{path} is there already and coterie did not write it: give another name, or move it away.")
    write_atomically(path, result_content(result, labels_used))


def result_content(result: Assignments, labels_used: int = 0) -> bytes:
    """The file that `write_result` writes."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table_of(result, labels_used), sink, compression="zstd")
    return sink.getvalue()


def table_of(result: Assignments, labels_used: int = 0) -> pa.Table:
    """The table that `write_result` writes, with its metadata."""
    import pyarrow as pa
    import torch

    def rows(matrix: torch.Tensor, kind: pa.DataType) -> pa.Array:
        flat = pa.array(matrix.contiguous().numpy().reshape(-1), kind)
        return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])

    p = result.probabilities
    confidence, label = p.max(1)
    columns = {
        "id": pa.array([printable(item) for item in result.ids], pa.string()),
        "label": pa.array(label.numpy().astype(np.int32)),
        "confidence": pa.array(confidence.numpy()),
    }
    if p.shape[1] <= ALL_UP_TO:
        columns["probabilities"] = rows(p, pa.float32())
        first = next(iter(result.heads), None)
        for name, matrix in result.heads.items():
            if name != first:
                columns[f"probabilities_{name}"] = rows(matrix, pa.float32())
    else:
        # Sorted, not topk: that one may begin with another group than `label` where several are equally likely.
        groups = torch.cat([part.sort(dim=1, descending=True, stable=True).indices[:, :TOP] for part in p.split(4096)])
        values = p.gather(1, groups)
        columns["top_labels"] = rows(groups.to(torch.int32), pa.int32())
        columns["top_probabilities"] = rows(values, pa.float32())
        columns["remainder"] = pa.array((1 - values.sum(1)).clamp(min=0).numpy())
    if result.ood_scores:
        columns["ood_score"] = pa.array(next(iter(result.ood_scores.values())).numpy())
    if result.embedding is not None:
        columns["embedding"] = rows(result.embedding, pa.float32())
    metadata = {MARK.decode(): "result", "coterie.heads": ",".join(result.heads), "coterie.k": str(p.shape[1])}
    if labels_used:
        metadata["coterie.labels_used"] = str(labels_used)
    if result.ood_scores:
        metadata["coterie.ood_score"] = next(iter(result.ood_scores))
    return pa.table(columns).replace_schema_metadata(metadata)


def is_ours(path: Path) -> bool:
    """Whether a file is a table of results or of accepted items as coterie wrote it, with no column of anyone else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:  # pyarrow itself opens no path that is in no encoding
            schema = pq.read_schema(file)
    except (OSError, pa.ArrowException):
        return False
    marks = (schema.metadata or {}).keys() & {MARK, b"coterie.heads"}  # before the mark there was only the other
    return bool(marks) and all(name in COLUMNS or name.startswith("probabilities_") for name in schema.names)


def read_result(path: Path, n: int | None = None, k: int | None = None) -> ResultTable:
    """Read a result table. For large K the left-out probabilities are spread evenly over the other groups.

    Raises InputError when there is no table, when it is of another kind or damaged, and when it has not the `n` items
    or the `k` groups that the run's record says.
    """
    with open_table(path, "id", "label", "confidence") as file:
        check_ids(path, file.read(columns=["id"])["id"])
        found = _unpack(file.read(), path)
    for asked, has, what in ((n, len(found.ids), "items"), (k, found.k, "groups")):
        if asked is not None and asked != has:
            raise InputError(f"{path} has {has:,} {what}, but the run's run.yaml says {asked:,}: they are of two runs.")
    return found


def _unpack(table: pa.Table, path: Path) -> ResultTable:
    """The columns of a result table as arrays. Raises InputError where they contradict each other."""
    metadata = table.schema.metadata or {}
    names = metadata.get(b"coterie.heads", b"").decode().split(",")
    heads: dict[str, np.ndarray] = {}
    if "probabilities" in table.column_names:
        heads[names[0] or "answer"] = _matrix(table, "probabilities", path)
        others = [n for n in names[1:] if f"probabilities_{n}" in table.column_names]
        heads |= {n: _matrix(table, f"probabilities_{n}", path) for n in others}
    else:
        heads[names[0] or "answer"] = _spread(table, int(metadata[b"coterie.k"]), path)
    answer = next(iter(heads.values()))
    k = answer.shape[1]
    for name, p in heads.items():
        if p.shape[1] != k:
            raise InputError(f"{path} is damaged: its head {name} has {p.shape[1]} groups, the answer {k}.")
        _check_rows(p, name, path)
    labels, confidence = labels_of(path, table, k)
    rows = np.arange(len(labels))
    wrong = (np.abs(answer[rows, labels] - confidence) > ROUNDING) | (answer.max(1) - confidence > ROUNDING)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{path} is damaged: group and confidence of row {row} are not those of its probabilities.")
    embedding = _matrix(table, "embedding", path) if "embedding" in table.column_names else None
    ood_score = numbers(table["ood_score"]) if "ood_score" in table.column_names else None
    as_stored = numbers(table["label"]), numbers(table["confidence"])
    return ResultTable(table["id"].to_pylist(), *as_stored, heads, embedding, ood_score)


def probabilities_of(table: pa.Table, k: int, path: Path) -> np.ndarray | None:
    """The answer's probabilities (n, k) of any table of results, None where it has none. Raises InputError."""
    if "probabilities" in table.column_names:
        p = _matrix(table, "probabilities", path)
        if p.shape[1] != k:
            raise InputError(f"{path} is damaged: it has probabilities of {p.shape[1]} groups, not of {k}.")
        return p.astype(np.float32)
    if {"top_labels", "top_probabilities", "remainder"} <= set(table.column_names):
        return _spread(table, k, path)
    return None


def _matrix(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """A column of rows of numbers as an array (n, width)."""
    import pyarrow as pa

    column = table[name].combine_chunks()
    if column.null_count or column.flatten().null_count:
        raise InputError(f"{path} is damaged: its column {name} has empty places.")
    flat = column.flatten()
    of_numbers = pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)
    if not of_numbers or len(column) == 0 or len(flat) % len(column) or len(flat) == 0:
        raise InputError(f"{path} is damaged: its column {name} is no row of numbers for each of its items.")
    return numbers(flat).reshape(len(column), -1)


def _spread(table: pa.Table, k: int, path: Path) -> np.ndarray:
    """Probabilities (n, k) from a table that holds only the largest of each row."""
    top, p = _matrix(table, "top_labels", path).astype(np.int64), _matrix(table, "top_probabilities", path)
    if top.shape != p.shape or not 1 <= top.shape[1] <= k <= MOST_GROUPS or top.min() < 0 or top.max() >= k:
        raise InputError(f"{path} is damaged: its columns top_labels and top_probabilities do not fit {k} groups.")
    full = np.repeat(numbers(table["remainder"])[:, None] / max(1, k - top.shape[1]), k, axis=1).astype(np.float32)
    np.put_along_axis(full, top, p, axis=1)
    return full


def _check_rows(p: np.ndarray, name: str, path: Path) -> None:
    """Raise InputError for a row that is no distribution over the groups."""
    sums = p.sum(axis=1, dtype=np.float64)
    wrong = ~((p.min(axis=1) >= -ROUNDING) & (np.abs(sums - 1) <= ROUNDING))  # NaN fails both
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{path} is damaged: the probabilities of row {row} (head {name}) are no shares that sum to 1."
        )
