"""The result table: one row per item, with its group, its confidence and its probabilities."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from coterie.training.checkpoints import write_atomically
from coterie.types import Assignments, InputError

if TYPE_CHECKING:
    import pyarrow as pa

ALL_UP_TO = 256  # groups; above it the table holds the TOP most probable ones and the remainder
TOP = 32


@dataclass
class ResultTable:
    """A result as arrays: ids, labels (n,), confidence (n,), probabilities by head, each (n, k)."""

    ids: list[str]
    labels: np.ndarray
    confidence: np.ndarray
    heads: dict[str, np.ndarray]
    embedding: np.ndarray | None = None
    ood_score: np.ndarray | None = None  # (n,), larger means more like the fitted items


def write_result(path: Path, result: Assignments) -> None:
    """Write `id`, `label`, `confidence`, `probabilities` (and `probabilities_<head>`, `embedding`) as Parquet.

    Of several out-of-distribution scores `ood_score` is the first; the metadata `coterie.ood_score` names it.
    With more than 256 groups `top_labels`, `top_probabilities` and `remainder` stand in place of the probabilities.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows(matrix: torch.Tensor, kind: pa.DataType) -> pa.Array:
        flat = pa.array(matrix.contiguous().numpy().reshape(-1), kind)
        return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])

    p = result.probabilities
    confidence, label = p.max(1)
    columns = {
        "id": pa.array(list(result.ids), pa.string()),
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
        top = p.topk(TOP, dim=1)
        columns["top_labels"] = rows(top.indices.to(torch.int32), pa.int32())
        columns["top_probabilities"] = rows(top.values, pa.float32())
        columns["remainder"] = pa.array((1 - top.values.sum(1)).clamp(min=0).numpy())
    if result.ood_scores:
        columns["ood_score"] = pa.array(next(iter(result.ood_scores.values())).numpy())
    if result.embedding is not None:
        columns["embedding"] = rows(result.embedding, pa.float32())
    metadata = {"coterie.heads": ",".join(result.heads), "coterie.k": str(p.shape[1])}
    if result.ood_scores:
        metadata["coterie.ood_score"] = next(iter(result.ood_scores))
    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(path, sink.getvalue())


def read_result(path: Path) -> ResultTable:
    """Read a result table. For large K the left-out probabilities are spread evenly over the other groups.

    Raises InputError when there is no table or it is of another kind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _unpack(pq.read_table(path))
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path} is not a result table of coterie: run `coterie fit` or `coterie predict` first."
        ) from error


def _unpack(table: pa.Table) -> ResultTable:
    def matrix(name: str) -> np.ndarray:
        column = table[name].combine_chunks()
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)

    metadata = table.schema.metadata or {}
    names = metadata.get(b"coterie.heads", b"").decode().split(",")
    heads: dict[str, np.ndarray] = {}
    if "probabilities" in table.column_names:
        heads[names[0] or "answer"] = matrix("probabilities")
        heads |= {n: matrix(f"probabilities_{n}") for n in names[1:] if f"probabilities_{n}" in table.column_names}
    else:
        k = int(metadata[b"coterie.k"])
        top = matrix("top_labels")
        full = np.repeat(table["remainder"].to_numpy()[:, None] / max(1, k - top.shape[1]), k, axis=1).astype(
            np.float32
        )
        np.put_along_axis(full, top.astype(np.int64), matrix("top_probabilities"), axis=1)
        heads[names[0] or "answer"] = full
    embedding = matrix("embedding") if "embedding" in table.column_names else None
    labels, confidence = table["label"].to_numpy(), table["confidence"].to_numpy()
    ood_score = table["ood_score"].to_numpy() if "ood_score" in table.column_names else None
    return ResultTable(table["id"].to_pylist(), labels, confidence, heads, embedding, ood_score)
