"""What is exported: the items of a run with their groups, as reviewed where somebody reviewed them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coterie.common.outputs import NotWritten
from coterie.prediction.results import ResultTable, probabilities_of, read_result
from coterie.records.files import check_regular
from coterie.records.group_names import checked_names, groups_of_model, shown_names
from coterie.records.review import REVIEWED, entry_of
from coterie.records.run import Record, groups_of, judgements_in, read_record
from coterie.records.table import check_ids, open_table, reading
from coterie.review.table import reviewed_table, table_of_log
from coterie.types import InputError

ONLY = ("all", "decided", "accepted", "undecided")

NOWHERE = -1
SOURCES = ("model", "group", "refit", "person", "import")


@dataclass(frozen=True)
class Items:
    """Items in the order of the result table, (m,) each. `label` -1 is an item that belongs nowhere."""

    ids: list[str]
    rows: NDArray[np.int64]  # of the result table
    label: NDArray[np.int64]
    confidence: NDArray[np.float32]  # NaN where the label is -1
    source: list[str]
    decided: NDArray[np.bool_]
    model_label: NDArray[np.int64]
    model_confidence: NDArray[np.float32]
    n_groups: int
    named: dict[int, str]  # names that somebody gave
    record: Record
    into: dict[int, int] = field(default_factory=dict)  # of groups that were merged: the one they went to
    empty: frozenset[int] = frozenset()  # of all items, not of these alone: groups without item, name or probability
    columns: dict[str, Any] = field(default_factory=dict)  # of the reviewed table, as they stand there: pa.Array
    probabilities: NDArray[np.float32] | None = None  # (m, n_groups)
    embedding: NDArray[np.float32] | None = None  # (m, d)
    ood_score: NDArray[np.float32] | None = None
    places: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None  # rows of the result table and their xy
    reviewed: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for every group."""
        return shown_names(self.named, self.n_groups)

    @cached_property
    def mark(self) -> dict[str, str]:
        """Metadata of a table: that coterie exported it, and how many judgements of people taught the run, if any."""
        judged = judgements_in(self.record)
        return {"coterie.table": "export", **({"coterie.labels_used": str(judged)} if judged else {})}

    @cached_property
    def alive(self) -> list[int]:
        """The groups that an item may be in: not those that a review merged into others, nor those it left empty."""
        return [group for group in range(self.n_groups) if group not in self.into.keys() | self.empty]

    def resolve(self, group: int) -> int:
        """The group itself, or the one that it was merged into."""
        seen = set()
        while group in self.into and group not in seen:
            seen.add(group)
            group = self.into[group]
        return group

    def name(self, at: int) -> str:
        """The name of an item's group, "" for an item that belongs nowhere."""
        label = int(self.label[at])
        return "" if label == NOWHERE else self.names[label]

    @cached_property
    def sure(self) -> list[float | None]:
        """Confidences as they are written: 0.93, not 0.9300000071525574."""
        return [None if value != value else float(str(value)) for value in self.confidence]

    def take(self, chosen: NDArray[np.integer]) -> Items:
        """These items, in this order."""
        at = np.asarray(chosen, np.int64)

        def part(values: Any) -> Any:
            return None if values is None else values[at]

        return replace(
            self,
            ids=[self.ids[i] for i in at.tolist()],
            source=[self.source[i] for i in at.tolist()],
            columns={name: column.take(pa.array(at)) for name, column in self.columns.items()},
            **{name: part(getattr(self, name)) for name in (*ARRAYS, "probabilities", "embedding", "ood_score")},
        )


NEEDED = ("id", "label", "name", "confidence", "source", "decided")  # of the reviewed table
ARRAYS = ("rows", "label", "confidence", "decided", "model_label", "model_confidence")


def items_of_run(run: Path, *, original: bool = False) -> Items:
    """The items of a finished run folder. Raises InputError."""
    record = read_record(run)
    status = record.get("status")
    if status != "done" or not os.path.lexists(run / "result.parquet"):
        state = f"its status is {status!r}" if status != "done" else "it has no result.parquet"
        raise InputError(f"The run in {run} is not finished, {state}: finish it with coterie fit ... --resume.")
    result = read_result(run / "result.parquet", (record.get("source") or {}).get("n"), groups_of(record))
    names, into = groups_of_model(run)
    items = replace(items_of_result(result, record, names), into=into)
    items = replace(items, places=_places(run / "map.npz", len(items)))
    if not original and (reviewed := _reviewed(run)) is not None:
        items = _as_reviewed(items, reviewed, run / REVIEWED)
    if items.embedding is None:
        items = replace(items, embedding=_embedding(run / "review" / "embedding.npy", len(items)))
    return items


def items_of_result(result: ResultTable, record: Record, named: Mapping[int, str]) -> Items:
    """The items of a result in memory."""
    labels, confidence = result.labels.astype(np.int64), result.confidence.astype(np.float32)
    return Items(
        list(result.ids),
        np.arange(len(labels)),
        labels,
        confidence,
        ["model"] * len(labels),
        np.zeros(len(labels), bool),
        labels,
        confidence,
        result.k,
        dict(named),
        record,
        probabilities=next(iter(result.heads.values())).astype(np.float32),
        embedding=result.embedding,
        ood_score=result.ood_score,
    )


def chosen(items: Items, only: str, limit: int | None = None) -> Items:
    """The items that the user asked for. Raises InputError where there is none."""
    if only in ("decided", "accepted") and not items.reviewed:
        raise InputError(f"Nothing is {only} yet, for the run has no review: leave --only {only} out, or review it.")
    keep = np.ones(len(items), bool)
    if only == "accepted":
        column = items.columns.get("accepted")
        if column is None or column.null_count == len(column):
            raise InputError("Nothing is accepted yet: make a claim in the review, or leave --only accepted out.")
        keep = column.fill_null(False).to_numpy(zero_copy_only=False)
    elif only != "all":
        keep = items.decided if only == "decided" else ~items.decided
    rows = np.flatnonzero(keep)[:limit]
    if len(rows) == 0:
        raise InputError(f"There is nothing to export: of {len(items):,} items none is {only}.")
    return items if len(rows) == len(items) else items.take(rows)


def _reviewed(run: Path) -> pa.Table | None:
    """The reviewed table of a run, None without one; of a run that cannot be written in memory alone."""
    try:
        path = reviewed_table(run)
    except NotWritten:
        return table_of_log(run)
    if path is None:
        return None
    with open_table(path, *NEEDED) as file:
        check_ids(path, file.read(columns=["id"])["id"])
        return file.read()


def _as_reviewed(items: Items, table: pa.Table, path: Path) -> Items:
    """The items as the reviewed table at `path` has them. Raises InputError where it is damaged or of another run."""
    review = entry_of(table.schema.metadata, path)
    named = {group.number: group.name for group in review.groups if group.name and group.into is None}
    taken = {name.casefold() for name in named.values()}
    named = {group: name for group, name in items.named.items() if name.casefold() not in taken} | named
    into = {group.number: group.into for group in review.groups if group.into is not None}
    with reading(path):
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        if columns["id"].to_pylist() != items.ids:
            raise InputError(f"{path} does not fit result.parquet: they are of two runs.")
        label = columns["label"].to_numpy(zero_copy_only=False).astype(np.int64)
        stated = (table.schema.metadata or {}).get(b"coterie.k", b"0")
        width = max(int(stated), items.n_groups, int(label.max(initial=0)) + 1)
        p = probabilities_of(table, width, path)
        if label.min(initial=0) < NOWHERE:
            raise InputError(f"{path} is damaged: row {int(label.argmin())} is in group {label.min()}.")
        confidence = columns["confidence"].cast(pa.float32()).fill_null(float("nan")).to_numpy(zero_copy_only=False)
        names = checked_names({group: name for group, name in named.items() if group not in into})
        held = {*label.tolist(), *names, *(() if p is None else np.flatnonzero(p.any(axis=0)).tolist())}
        return replace(
            items,
            label=label,
            confidence=np.where(label == NOWHERE, np.float32("nan"), confidence),
            source=columns["source"].to_pylist(),
            decided=columns["decided"].fill_null(False).to_numpy(zero_copy_only=False),
            n_groups=width,
            named=names,
            into=items.into | into,
            empty=frozenset(range(width)) - held,
            columns={name: column for name, column in columns.items() if name not in NEEDED},
            probabilities=p,
            reviewed=True,
        )


def _places(path: Path, n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    from coterie.records.arrays import read_arrays

    arrays = read_arrays(path, {"rows": ("iu", 1), "xy": ("f", 2)})
    if arrays is None:
        return None
    rows, xy = arrays["rows"].astype(np.int64), arrays["xy"].astype(np.float32)
    if xy.shape != (len(rows), 2) or (len(rows) and not 0 <= rows.min() <= rows.max() < n):
        raise InputError(f"{path} does not fit result.parquet: they are of two runs.")
    return rows, xy


def _embedding(path: Path, n: int) -> NDArray[np.float32] | None:
    """The features that a review computed, (n, d)."""
    if not os.path.lexists(path):
        return None
    check_regular(path)
    with reading(path):
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.ndim != 2 or len(found) != n or found.dtype.kind != "f":
            raise InputError(f"{path} does not fit result.parquet: they are of two runs.")
        return np.asarray(found, np.float32)
