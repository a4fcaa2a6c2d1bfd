"""`coterie fit --init RUN --judged FILE`: what people judged of RUN, for a run that begins with it.

The stages train without labels as ever; only the calibration head sees the judgements, as constants. It gives the
confidences and leaves every item in the group where the method put it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from coterie.calibration.constraints import Constraints
from coterie.common.words import counted
from coterie.data.judged import ELSEWHERE, NOWHERE, read_judged
from coterie.prediction.results import read_result
from coterie.records import groups_of, read_record
from coterie.records.group_names import groups_of_model
from coterie.records.review import REVIEWED, entry_of, read_review
from coterie.records.rows import written
from coterie.review.log import was_reviewed
from coterie.review.table import table_of_log
from coterie.types import InputError, Source

ALIKE = 0.5  # share of a group's items that must lie in one new group, for its judgements to be about that


@dataclass(frozen=True)
class Judgements:
    """Judged rows (m,), where each belongs in RUN's numbers, and where it was there; RUN's labels (n,)."""

    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    labels: NDArray[np.int64]
    used: dict[str, Any]  # for the record: how many, of which file
    notes: list[str] = field(default_factory=list)


def read_judgements(init: str, judged: str, source: Source) -> Judgements:
    """The judgements in a file about the finished run `init`. Raises InputError where the data are not that run's."""
    run, path = Path(init), Path(judged)
    if not os.path.lexists(run):  # a run that goes on has its model, and not its groups
        raise InputError(f"--judged is about the groups of {run}, which is not there any more: put that run back.")
    record = read_record(run)
    if record.get("status") != "done":
        raise InputError(f"--judged is about {run}, which is not finished: finish it with coterie fit ... --resume.")
    entry = record.get("source") or {}
    if source.fingerprint and entry.get("fingerprint") != source.fingerprint:  # empty: a dry run, see `rehearse`
        raise InputError(
            f"--judged is about the items of {run}, and {source.origin} holds others: fit the data of that run."
        )
    result = read_result(run / "result.parquet", entry.get("n"), groups_of(record))
    labels = result.labels.astype(np.int64)
    # By its log: of a review that is open, or was killed, the table knows no name that was given since.
    by_log = entry_of(table_of_log(run).schema.metadata, run / REVIEWED) if was_reviewed(run) else None
    reviewed = by_log or read_review(run)
    named = {group.number: group.name for group in (reviewed.groups if reviewed else []) if group.name}
    names = {name: group for group, name in {**groups_of_model(run)[0], **named}.items() if group < result.k}
    found = read_judged(path, result.ids, labels, result.k, names)
    used = {
        "file": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "about": str(run),
        "judged": len(found.rows),
        "rows": written(found.rows),
    }
    return Judgements(found.rows, found.groups, labels, used, found.notes)


def constraints_of(
    judgements: Judgements, said: Float[Tensor, "t k"], taught: NDArray[np.int64]
) -> tuple[Constraints, list[str]]:
    """The judgements in the numbers of the new groups and of the rows that training sees, and what was left out.

    said (t, k): the new clustering of the rows `taught` (t,), ascending. Group g of RUN is the new group that has most
    of its items, one to one (Hungarian matching, no labels); where that is not half of them, what was said about g is
    left out. Raises InputError where nothing is left.
    """
    new, old = said.argmax(1).numpy(), judgements.labels[taught]
    table = np.zeros((int(judgements.labels.max()) + 1, said.shape[1]))
    np.add.at(table, (old, new), 1)
    pairs = dict(zip(*(side.tolist() for side in linear_sum_assignment(-table)), strict=True))
    share = {group: table[group, to] / max(1, table[group].sum()) for group, to in pairs.items()}
    known = {group: to for group, to in pairs.items() if share[group] >= ALIKE}
    place = np.searchsorted(taught, judgements.rows)
    there = (place < len(taught)) & (taught[np.minimum(place, len(taught) - 1)] == judgements.rows)
    fixed, others, lost, outside = [], [], 0, int((~there).sum())
    for at, row, group in zip(place[there], judgements.rows[there], judgements.groups[there], strict=True):
        was = int(judgements.labels[row])
        if group in (NOWHERE, ELSEWHERE):
            if was in known:
                others.append((int(at), known[was]))
                continue
        elif int(group) in known:
            fixed.append((int(at), known[int(group)]))
            continue
        lost += 1
    if not fixed and not others:
        raise InputError(
            "None of the judgements can be used: no group of the run that was judged came again, or none of its items."
        )
    notes = [
        f"{counted(len(fixed), 'judged item')} with their group and {len(others)} without took part in the calibration."
    ]
    if lost:
        notes.append(f"{counted(lost, 'judgement')} took no part, for less than half of their group came again as one.")
    if outside:
        notes.append(f"Items far outside all others train nothing, so {counted(outside, 'judgement')} took no part.")

    def column(rows: list[tuple[int, int]], which: int) -> Tensor:
        return torch.tensor([row[which] for row in rows], dtype=torch.int64)

    return Constraints(column(fixed, 0), column(fixed, 1), column(others, 0), column(others, 1)), notes
