"""hf-parquet: pictures and labels in one table, as `datasets` reads it; a source of coterie again.

Row groups of 100, so that a reader that wants one picture reads no more than that. A label is a class number; its
names stand in the schema, under the key `huggingface`. An item of no group has no label.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coterie.export.file_names import file_name
from coterie.export.items import NOWHERE
from coterie.export.jobs import Job
from coterie.export.registry import FileFormat

ROW_GROUP = 100


def write(path: Path, job: Job) -> None:
    """Encoded pictures with their labels in one table."""
    items = job.with_pictures()
    classes = [items.names[group] for group in range(items.n_groups)]
    features = {
        "id": {"dtype": "string", "_type": "Value"},
        "image": {"_type": "Image"},
        "label": {"names": classes, "_type": "ClassLabel"},
        "name": {"dtype": "string", "_type": "Value"},
        "confidence": {"dtype": "float32", "_type": "Value"},
    }
    about = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kinds = [("id", pa.string()), ("image", image), ("label", pa.int64()), ("name", pa.string())]
    schema = pa.schema([*kinds, ("confidence", pa.float32())], {"huggingface": about, **items.mark})
    with open(path, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for begin in range(0, len(items), ROW_GROUP):
            part = items.take(np.arange(begin, min(begin + ROW_GROUP, len(items))))
            nowhere = part.label == NOWHERE
            cells = [{"bytes": job.originals.read(item), "path": file_name(item)} for item in part.ids]
            columns = [
                pa.array(part.ids, pa.string()),
                pa.array(cells, image),
                pa.array(part.label, pa.int64(), mask=nowhere),
                pa.array([part.name(row) or None for row in range(len(part))], pa.string()),
                pa.array(part.confidence, pa.float32(), mask=nowhere),
            ]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP)


FORMAT = FileFormat(".parquet", write, "pictures and groups in one table, for Hugging Face's datasets", pictures=True)
