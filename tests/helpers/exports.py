"""Small finished runs over photos, as written by hand, with and without a review."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

NAMES = ("a/IMG_1.jpg", "a/IMG_2.png", "b/IMG_1.jpg", "b/img_1.JPG", "c/=cmd().png", "c/-rf.png", "c/NUL.png", "d.png")
K = 4


def write_pictures(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    for row, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            kind = "JPEG" if name.lower().endswith("jpg") else "PNG"
            Image.new("RGB", (12 + row, 10), (20 * row, 0, 0)).save(file, kind)


def write_run(
    run: Path,
    photos: Path | None,
    ids: list[str],
    labels: np.ndarray,
    *,
    k: int = K,
    embedding: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
) -> None:
    """A finished run folder, its confidences falling from 0.99 on."""
    n = len(ids)
    sure = np.linspace(0.99, 0.51, n) if confidence is None else confidence
    p = np.repeat(((1 - sure) / (k - 1))[:, None], k, axis=1).astype(np.float32)
    p[np.arange(n), labels] = sure.astype(np.float32)
    run.mkdir(parents=True)
    kind = "images" if photos is not None else "embeddings"
    source = {"name": "photos", "origin": "photos", "n": n, "kind": kind, "spec": {"kind": kind}, "fingerprint": "ab12"}
    source |= {"path": str(photos)} if photos is not None else {}
    record = {"status": "done", "source": source, "n_clusters": k, "seed": 0, "stages": [{"name": "cdc"}]}
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    columns = {"id": pa.array(ids), "label": pa.array(labels.astype(np.int32)), "confidence": pa.array(p.max(1))}
    columns["probabilities"] = pa.FixedSizeListArray.from_arrays(pa.array(p.reshape(-1)), k)
    if embedding is not None:
        flat = pa.array(embedding.astype(np.float32).reshape(-1))
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embedding.shape[1])
    metadata = {"coterie.table": "result", "coterie.heads": "cal", "coterie.k": str(k)}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), run / "result.parquet")
