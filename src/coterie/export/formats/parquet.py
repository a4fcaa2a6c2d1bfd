"""parquet: the whole table with probabilities, in the columns of `result.reviewed.parquet`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coterie.export.items import NOWHERE, Items
from coterie.export.jobs import Job
from coterie.export.registry import FileFormat

ROW_GROUP = 50_000


def write(path: Path, job: Job) -> None:
    """The reviewed table, or the run's own where nothing was reviewed."""
    with open(path, "wb") as file:  # pyarrow itself opens no path that is in no encoding
        pq.write_table(table_of(job.items), file, compression="zstd", row_group_size=ROW_GROUP)


def table_of(items: Items) -> pa.Table:
    """The columns of a review; without one they say that nobody has looked."""
    m, nowhere = len(items), items.label == NOWHERE
    names = [items.named.get(label, "") for label in items.label.tolist()]
    columns: dict[str, Any] = {
        "id": pa.array(items.ids, pa.string()),
        "label": pa.array(items.label.astype(np.int32)),
        "name": pa.array(names, pa.string()),
        "confidence": pa.array(items.confidence, pa.float32(), mask=nowhere),
        "source": pa.array(items.source, pa.string()),
        "decided": pa.array(items.decided),
        "seen": pa.array(np.zeros(m, bool)),
        "accepted": pa.nulls(m, pa.bool_()),
        "confidence_judged": pa.nulls(m, pa.float32()),
        "model_label": pa.array(items.model_label.astype(np.int32)),
        "model_confidence": pa.array(items.model_confidence),
    }
    if items.probabilities is not None:
        flat = pa.array(items.probabilities.reshape(-1))
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, items.probabilities.shape[1])
    if items.ood_score is not None:
        columns["ood_score"] = pa.array(items.ood_score)
    for name in ("seen", "accepted", "confidence_judged", "ood_score"):
        if name in items.columns:
            columns[name] = items.columns[name]
    groups = [{"group": group, "name": name} for group, name in sorted(items.named.items())]
    more = {"coterie.k": str(items.n_groups), "coterie.groups": json.dumps(groups)}
    return pa.table(columns).replace_schema_metadata(items.mark | more)


FORMAT = FileFormat(".parquet", write, "pandas, polars, DuckDB: with all probabilities")
