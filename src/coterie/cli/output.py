"""What a command prints for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_object(value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """The one machine-readable object of --json."""
    print(json.dumps(value, indent=2, default=str))


def run_summary(run: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What every command says of a run in its object: the same names in all of them."""
    source = record.get("source") or {}
    return {
        "run": str(run),
        "data": source.get("name"),
        "method": (record.get("stages") or [{}])[-1].get("name"),
        "n": source.get("n"),
        "k": record.get("n_clusters"),
        "seed": record.get("seed"),
        "seconds": record.get("seconds"),
        "skipped": len(source.get("skipped") or []),
    }
