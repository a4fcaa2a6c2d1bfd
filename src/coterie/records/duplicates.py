"""`duplicates.json`: the near-duplicates among a run's items, as `coterie duplicates RUN` found them."""

from __future__ import annotations

from pathlib import Path

from coterie.records.files import read_json, validated
from coterie.records.run import Count, Entries, Record

FILE = "duplicates.json"
LARGEST = 256 << 20


class SetEntry(Entries):
    """One set: its items, whether they are the same, the groups they are in and the one that they would share."""

    items: list[str]
    exact: bool = False
    groups: list[Count] = []
    together: Count | None = None


class DuplicatesEntry(Entries):
    """All of it."""

    n: Count = 0
    items: Count = 0
    split: Count = 0
    sets: list[SetEntry] = []


def read_duplicates(run: Path) -> Record | None:
    """What the file of a run folder says; None without one. Raises InputError."""
    path = run / FILE
    if not path.exists() and not path.is_symlink():
        return None
    content: Record = read_json(path, LARGEST)
    validated(DuplicatesEntry, content, str(path))
    return content
