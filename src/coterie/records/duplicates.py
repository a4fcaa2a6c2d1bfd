"""`duplicates.json`: the near-duplicates among a run's items, as `coterie duplicates RUN` found them."""

from __future__ import annotations

from pathlib import Path

from coterie.records.files import read_entries
from coterie.records.run import Count, Entries, Record

FILE = "duplicates.json"
LARGEST = 256 << 20


class SetEntry(Entries):
    """One set: its items, whether they are the same, the groups they are in and the one that they would share."""

    items: list[str]
    exact: bool
    groups: list[Count]
    together: Count


class DuplicatesEntry(Entries):
    """All of it."""

    n: Count
    items: Count
    split: Count
    sets: list[SetEntry]


def read_duplicates(run: Path) -> Record | None:
    """What the file of a run folder says; None without one. Raises InputError."""
    found: Record | None = read_entries(DuplicatesEntry, run / FILE, LARGEST)
    return found
