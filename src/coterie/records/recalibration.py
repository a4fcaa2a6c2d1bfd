"""`recalibration.json`: the map that a judged sample gave a run's confidences, and the table made with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from coterie.records.files import read_entries
from coterie.records.run import Count, Entries, Fraction, Record

FILE, TABLE = "recalibration.json", "result.recalibrated.parquet"
LARGEST = 4 << 20

Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]


class MapEntry(Entries):
    """The map, as in `evaluation.recalibration.Map`."""

    kind: Literal["temperature", "platt", "beta", "isotonic"]
    theta: list[Number]
    corners: list[Pair] = []


class Miscalibration(Entries):
    """How far judged confidences were off."""

    confidence: Fraction
    accuracy: Fraction
    gap: Number
    gap_interval: Pair
    ece: Number
    by_chance: Number
    p: Fraction


class RecalibrationEntry(Entries):
    """All of it. `labels_used`: how many items a person judged, by file."""

    map: MapEntry
    before: Miscalibration
    after: Miscalibration
    labels_used: dict[str, Any] = {}
    judged: Count


def read_recalibration(run: Path) -> Record | None:
    """What the file of a run folder says; None without one. Raises InputError."""
    found: Record | None = read_entries(RecalibrationEntry, run / FILE, LARGEST)
    return found


def kept_beside(run: Path) -> str | None:
    """What review and export say of a run whose recalibrated confidences lie beside its own; None without any."""
    if not os.path.lexists(run / FILE):
        return None
    return f"The confidences are the run's own; those that judged items corrected are in {TABLE}."
