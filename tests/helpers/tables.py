"""A small table of embeddings with labels, and pictures to encode in cells."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from coterie.data import open_source
from coterie.types import Source

PIXELS = np.random.default_rng(0).integers(0, 256, (25, 12, 10, 3), dtype=np.uint8)
VECTORS = np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)
FLOATS = {f"f{place}": VECTORS[:, place] for place in range(6)}
CODES = np.arange(20) % 4


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def opened(path: Path, table: Any, **options: Any) -> Source:
    """The source of a table, or of its columns by name, from a file at this path."""
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path)
    return open_source(path, **options)


def values(source: Source) -> np.ndarray:
    """All items, (n, d) or (n, c, h, w)."""
    return source.items.take(torch.arange(len(source.items))).numpy()
