"""Finished runs to review: pictures on the disk, a result table that fits them, and an embedding of two dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

COLOURS = np.array([(200, 60, 60), (60, 160, 60), (60, 80, 200), (200, 170, 40), (150, 60, 170), (40, 170, 170)])


def probabilities_of(n: int, k: int, seed: int = 0) -> np.ndarray:
    """Rows that sum to 1; item i most likely belongs to group i % k, some of them hardly."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), np.arange(n) % k] += 5 * rng.random(n)
    p = np.exp(logits)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def write_pictures(folder: Path, n: int, k: int, side: int = 24) -> list[str]:
    """n pictures, coloured by group; returns their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for row in range(n):
        pixels = np.clip(COLOURS[row % k % len(COLOURS)] + rng.integers(-40, 40, (side, side, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"photo_{row:05}.png", compress_level=1)
    return [f"photo_{row:05}.png" for row in range(n)]


def write_run(
    run: Path,
    p: np.ndarray,
    *,
    ids: list[str] | None = None,
    source: str = "",
    embedding: np.ndarray | None = None,
    kind: str = "images",
    **entries: Any,
) -> Path:
    """A finished run folder with these probabilities (n, k)."""
    run.mkdir(parents=True, exist_ok=True)
    n, k = p.shape
    ids = ids or [f"photo_{row:05}.png" for row in range(n)]
    spec = {"kind": kind, "channels": 3, "height": 24, "width": 24, "dim": 2}
    content = {
        "status": "done",
        "source": {"name": "photos", "origin": source, "n": n, "spec": spec, "fingerprint": "ab" * 32, "skipped": []},
        "n_clusters": k,
        "seed": 0,
        "stages": [{"name": "cdc", "settings": {}, "epochs": 1, "seconds": 1.0, "status": "done"}],
        "command": "coterie fit photos/",
        "seconds": 1.0,
        "calibrated": True,
    }
    (run / "run.yaml").write_text(yaml.safe_dump(content | entries), encoding="utf-8")
    columns: dict[str, Any] = {
        "id": pa.array(ids, pa.string()),
        "label": pa.array(p.argmax(1), pa.int32()),
        "confidence": pa.array(p.max(1)),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), k),
    }
    if embedding is not None:
        flat = pa.array(embedding.astype(np.float32).ravel())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embedding.shape[1])
    marks = {"coterie.table": "result", "coterie.heads": "cal", "coterie.k": str(k)}
    pq.write_table(pa.table(columns).replace_schema_metadata(marks), run / "result.parquet")
    return run


def embedding_of(n: int, k: int, seed: int = 2) -> np.ndarray:
    """(n, 2): each group on a circle, in two halves, so that it can be parted."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * (np.arange(n) % k) / k
    half = (np.arange(n) // k % 2)[:, None]
    return np.c_[np.cos(angle), np.sin(angle)] * (8 + 2 * half) + rng.normal(size=(n, 2)) * 0.2


def small_run(folder: Path, n: int = 120, k: int = 4, *, pictures: bool = True, features: bool = True) -> Path:
    """A run in `folder`/run over pictures in `folder`/photos."""
    ids = write_pictures(folder / "photos", n, k) if pictures else None
    embedding = embedding_of(n, k) if features else None
    p = probabilities_of(n, k)
    kind = "images" if pictures else "embeddings"
    return write_run(folder / "run", p, ids=ids, source=str(folder / "photos"), embedding=embedding, kind=kind)


def put_far_outside(run: Path, rows: str) -> None:
    """Say in the record of a run that these rows ("5,17") lie far outside all others."""
    record = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    record["source"]["outliers"] = rows
    (run / "run.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
