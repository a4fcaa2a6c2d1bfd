"""embedding-atlas: a table of points with their groups and nearest neighbours, for Apple's Embedding Atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coterie.common.words import counted
from coterie.export.items import Items
from coterie.export.jobs import Job
from coterie.export.pictures import thumbnail
from coterie.export.registry import FileFormat
from coterie.report.map import project
from coterie.types import InputError

NEIGHBOURS = 15
SIDE = 160  # pixels of a thumbnail
ROW_GROUP = 10_000


def write(path: Path, job: Job) -> None:
    """Points with their groups, neighbours and, if asked for, small pictures."""
    items = job.items
    if items.embedding is not None:
        xy, options = project(items.embedding), "--x projection_x --y projection_y --neighbors neighbors"
    else:
        items, xy = _on_the_map(job)
        options = "--x projection_x --y projection_y"
    nowhere = np.isnan(items.confidence)
    columns: dict[str, Any] = {
        "id": pa.array(items.ids, pa.string()),
        "group": pa.array([items.name(row) or None for row in range(len(items))], pa.string()),
        "confidence": pa.array(items.confidence, pa.float32(), mask=nowhere),
        "projection_x": pa.array(np.ascontiguousarray(xy[:, 0])),
        "projection_y": pa.array(np.ascontiguousarray(xy[:, 1])),
    }
    if items.embedding is not None:
        columns["neighbors"] = _neighbours(items.embedding)
    if job.options.thumbs:
        cells = [{"bytes": thumbnail(item, job.originals, SIDE), "path": item} for item in items.ids]
        lost = np.array([cell["bytes"] is None for cell in cells])
        if lost.any():
            were = counted(
                int(lost.sum()), "picture cannot be read any more and is", "pictures cannot be read any more and are"
            )
            job.notes.append(f"{were} left empty.")
        columns["image"] = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        options += " --image image"
    table = pa.table(columns).replace_schema_metadata(items.mark)
    with open(path, "wb") as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
    job.notes.append(f"Open it with: embedding-atlas FILE {options}")


def _on_the_map(job: Job) -> tuple[Items, NDArray[np.float32]]:
    """The items that the report's map shows. Raises InputError where there is no map."""
    items = job.items
    if items.places is None:
        raise InputError("The run has neither embeddings nor a map: fit it with --set store_embedding=true.")
    place = dict(zip(items.places[0].tolist(), items.places[1], strict=True))
    there = np.array([row in place for row in items.rows.tolist()])
    if not there.any():
        raise InputError("None of these items is on the run's map: fit it with --set store_embedding=true.")
    job.say_left_out(~there, "that the run's map does not show (it stores no embeddings)")
    job.notes.append("Without embeddings there are no neighbours: fit the run with --set store_embedding=true.")
    items = items.take(np.flatnonzero(there))
    return items, np.stack([place[row] for row in items.rows.tolist()])


def _neighbours(embedding: NDArray[np.float32]) -> pa.Array:
    """The nearest other rows of each, by cosine distance, as {ids, distances}; rows count from 0."""
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(embedding) - 1)
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    unit = embedding / np.where(length > 0, length, 1)
    ids, distances = np.zeros((len(unit), k), np.int64), np.zeros((len(unit), k), np.float32)
    if k > 0:
        # Euclidean on unit length: its square is twice the cosine distance.
        near, rows = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(unit).kneighbors(unit)
        for row in range(len(unit)):
            others = rows[row] != row
            others[-1] &= others[:-1].sum() < k  # of equal rows the item itself may not be among the found
            ids[row], distances[row] = rows[row][others][:k], near[row][others][:k] ** 2 / 2
    offsets = pa.array(np.arange(len(unit) + 1, dtype=np.int32) * np.int32(k))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1))) for values in (ids, distances)]
    return pa.StructArray.from_arrays(lists, ["ids", "distances"])


FORMAT = FileFormat(".parquet", write, "Apple's Embedding Atlas: a map with neighbours", heeds=("thumbs",))
