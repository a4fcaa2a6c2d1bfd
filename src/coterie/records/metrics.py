"""`metrics.json`, a run against true labels, and `ood.json`, a run against foreign items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from coterie.records.files import derived, is_there, read_entries, read_json
from coterie.records.run import Count, Entries, Fraction, Record
from coterie.types import InputError

LARGEST = 256 << 20  # bytes: the confusion of 5,000 classes and groups

Number = Annotated[float, Field(ge=-1e12, le=1e12)]


class OfCluster(Entries):
    """One group: the class that it stands for."""

    cluster: Count
    class_: str | None = Field(None, alias="class")
    acc: Fraction | None = None


class Bin(Entries):
    """A bin of the reliability diagram."""

    lower: Fraction
    upper: Fraction
    count: Count
    confidence: Fraction | None
    accuracy: Fraction | None


class Accepted(Entries):
    """What is accepted at one threshold of the confidence."""

    threshold: Fraction
    count: Count
    share: Fraction
    expected_error: Number | None = None
    error: Fraction | None


class Confusion(Entries):
    """Items of each class (a row) in each group (a column)."""

    clusters: list[Count] = []
    counts: list[list[Count]] = []


class Metrics(Entries):
    """What `evaluate` writes; all further entries are numbers by name, or None where one is undefined."""

    n: Count = 0
    unknown: Count = 0
    acc: Fraction | None = None
    confidence: Fraction | None = None
    nmi: Number | None = None
    ari: Number | None = None
    f1: Number | None = None
    balanced_accuracy: Number | None = None
    purity: Number | None = None
    ece: Number | None = None
    ece_adaptive: Number | None = None
    ece_debiased: Number | None = None
    ece_classwise: Number | None = None
    overconfidence: Number | None = None
    auroc: Number | None = None
    aurc: Number | None = None
    fpr95: Number | None = None
    classes: list[str] = []
    labels: str = ""
    labels_used: Count = 0  # items left out, since their judgement took part in the run
    heads: dict[str, dict[str, Any]] = {}
    intervals: dict[str, Any] | None = None
    per_cluster: list[OfCluster] = []
    reliability: list[Bin] = []
    acceptance: list[Accepted] = []
    confusion: Confusion = Confusion()

    @model_validator(mode="after")
    def _fits(self) -> Metrics:
        for head, numbers in self.heads.items():
            for name, value in numbers.items():
                if name != "sizes" and not (value is None or _is_number(value)):
                    raise ValueError(f"heads.{head}.{name} is no number")
        for name, bounds in (self.intervals or {}).items():
            if name in ("level", "resamples"):
                if not _is_number(bounds):
                    raise ValueError(f"intervals.{name} is no number")
            elif not (
                isinstance(bounds, list) and len(bounds) == 2 and all(b is None or _is_number(b) for b in bounds)
            ):
                raise ValueError(f"intervals.{name} is no pair of numbers")
        if self.intervals and "level" not in self.intervals:
            raise ValueError("intervals.level is missing")
        counts, clusters = self.confusion.counts, self.confusion.clusters
        if counts and (len(counts) != len(self.classes) or any(len(row) != len(clusters) for row in counts)):
            raise ValueError(
                f"confusion.counts needs a row for each of the {len(self.classes)} classes and a column for each of "
                f"the {len(clusters)} clusters"
            )
        if self.acc is not None and self.confidence is None and self.n:
            raise ValueError("confidence is missing beside acc")
        return self


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e12


def read_metrics(path: Path) -> Record | None:
    """What `metrics.json` says, None where there is none. Raises InputError."""
    found: Record | None = read_entries(Metrics, path, LARGEST)
    return found


def read_foreign(path: Path) -> Record:
    """What `ood.json` says, by source; empty where there is none. Raises InputError."""
    if not is_there(path):
        return {}
    with derived(path):
        content: Record = read_json(path, LARGEST)
        if not isinstance(content, dict):
            raise InputError(f"{path} is damaged: it is no mapping of sources.")
    return content
