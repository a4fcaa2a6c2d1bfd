"""`features.json`: what the embeddings in a folder are of, beside `features.npy` and `items.parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from coterie.records.files import read_json, validated
from coterie.records.run import Count, EncodingEntry, Entries, LeftOut, Name
from coterie.types import InputError

FORMAT = 1
FEATURES, ITEMS, MANIFEST, PARTS = "features.npy", "items.parquet", "features.json", "parts"
LARGEST = 32 << 20  # bytes of a features.json


class FeaturesRecord(Entries):
    """All of `features.json`."""

    format: int
    encoding: EncodingEntry
    low: float = 0.0  # as in `types.ItemSpec`
    high: float = 0.0
    n: Count
    dim: Annotated[int, Field(ge=1, le=1 << 24)]
    name: Name  # of the source
    origin: Name  # what the user gave
    path: Name = ""  # where it lay, for the pictures of a report; "" where it was no folder
    fingerprint: Name
    skipped: list[LeftOut] = []
    notes: list[str] = []
    versions: dict[str, Any] = {}


def holds_features(folder: Path) -> bool:
    """Whether a folder is one that `coterie embed` wrote."""
    return (folder / MANIFEST).is_file() and (folder / FEATURES).is_file()


def read_features(folder: Path) -> FeaturesRecord:
    """The manifest of a folder of embeddings. Raises InputError where it is damaged or of another version."""
    path = folder / MANIFEST
    content = read_json(path, LARGEST)
    stated = content.get("format") if isinstance(content, dict) else None
    if isinstance(stated, int) and stated != FORMAT:
        raise InputError(f"{path} has format {stated}, this version of coterie reads {FORMAT}: embed again.")
    return validated(FeaturesRecord, content, str(path))
