"""The review's metadata in `result.reviewed.parquet`, for the report, exports and comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coterie.records.files import is_there, validated
from coterie.records.run import Count, Entries, Fraction, Name
from coterie.records.table import open_table
from coterie.types import InputError

REVIEWED = "result.reviewed.parquet"
KEY = b"coterie.review"


class GroupEntry(Entries):
    """A group: its name, where it came from, where it went, and what was decided in it."""

    number: Count
    name: Name = ""
    parents: list[Count] = []
    into: Count | None = None
    size: Count = 0
    decided: Count = 0
    seen: Count = 0


class LabelsUsed(Entries):
    """How many decisions of people the table contains."""

    decided: Count = 0
    seen: Count = 0
    inferred: Count = 0
    judged: Count = 0
    imported: Count = 0
    files: list[dict[str, Any]] = []
    refits: Count = 0


class ClaimEntry(Entries):
    """The claim of the last audit, if it is still valid."""

    audit: Count
    max_error: Fraction
    level: Fraction
    own_level: Fraction
    judged: Count
    wrong: Count
    threshold: float | None = None
    accepted: Count = 0
    of: Count = 0
    voided: str | None = None


class ReviewEntry(Entries):
    """All of it."""

    format: Count = 1
    events: Count = 0  # lines of the log after its first
    log: Name = ""  # the SHA-256 of its events
    sha256: Name = ""  # of the result.parquet that was reviewed
    fingerprint: Name | None = None
    n: Count = 0
    rejected: Count = 0
    not_likeliest: Count = 0  # items of which merges made another group likelier; the review moves nobody
    groups: list[GroupEntry] = []
    labels_used: LabelsUsed = LabelsUsed()
    claim: ClaimEntry | None = None


def read_review(run: Path) -> ReviewEntry | None:
    """What the reviewed table says; None without one. Raises InputError for a table that is damaged."""
    path = run / REVIEWED
    if not is_there(path):
        return None
    with open_table(path, "id", "label") as file:
        return entry_of(file.schema_arrow.metadata, path)


def entry_of(metadata: Mapping[bytes, bytes] | None, path: Path) -> ReviewEntry:
    """What the metadata of the reviewed table at `path` say. Raises InputError where they are damaged or none."""
    text = (metadata or {}).get(KEY)
    try:
        content = json.loads(text) if text is not None else None
    except ValueError as error:
        raise InputError(f"{path} is damaged: what it says about its review cannot be read.") from error
    if content is None:
        raise InputError(f"{path} is no table of a review: move it away.")
    return validated(ReviewEntry, content, str(path))
