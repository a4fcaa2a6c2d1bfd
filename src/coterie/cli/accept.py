"""`coterie accept`: which items may be taken as they are, and the sample that a person judges to be sure of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.cli.accept_answer import (
    AcceptRequest,
    describe,
    describe_audit,
    print_found,
    promised,
    sample_size,
    sentence,
    suggest,
    unused,
)
from coterie.cli.output import check_ending, percent, print_object
from coterie.cli.reviewed import taught
from coterie.common.outputs import check_output, typed, write_atomically
from coterie.common.words import counted
from coterie.data.judged import Judged, read_judged, table_content
from coterie.evaluation import accept
from coterie.records.review import read_review
from coterie.records.rows import outside_of, taught_by
from coterie.report.read import ReadRun, Result, read_finished, read_recalibrated
from coterie.review.before import before_review
from coterie.review.table import is_current
from coterie.types import InputError


def accept_items(request: AcceptRequest) -> None:
    """Find the accept set, say what it promises, write its table if asked to. Raises InputError."""
    if request.draw is not None and request.out is None:
        raise InputError(f"--draw needs a file to write: give it with -o, for example -o {unused('to-judge.csv')}.")
    if request.out is not None:
        check_ending(request.out, ".csv", ".parquet")
    accept.check_error(request.max_error)
    accept.check_level(request.level)
    folder, result = read_finished(request.run)
    if request.recalibrated:
        if request.judged is not None:
            raise InputError("--recalibrated uses judged items already, so --judged cannot check it: leave one out.")
        result = read_recalibrated(folder)
    out = check_table(request, result) if request.out is not None else None
    if request.draw is not None:
        assert out is not None
        draw_items(request, folder, result, out)
        return
    if request.judged is None and not folder.calibrated and not request.recalibrated:
        raise InputError(
            f"The confidences of {request.run} are not calibrated, so the share of wrong items is unknown: calibrate "
            "them by the same fit command with --resume --calibrate, or judge a sample (coterie accept "
            f"{typed(request.run)} --draw {sample_size(len(result.labels))} -o {unused('to-judge.csv')})."
        )
    audit, notes = None, [*(f"{note}." for note in taught(request.run)), *of_review(folder)]
    outside, confidence = outside_of(folder.run, len(result.labels)), result.confidence
    if outside.any():
        confidence = np.where(outside, 0, confidence)  # a row far outside looks sure, whatever it is
        notes.append(f"{counted(int(outside.sum()), 'row')} far outside the others: not accepted.")
    if request.judged is not None:
        # Their confidences follow from their judgements, which therefore cannot check them.
        own = taught_by(folder.run, len(result.labels))
        outside, confidence = outside | own, np.where(own, 0, confidence)
        read = read_judgements(request.judged, folder, result)
        judged = read.rows
        notes += read.notes
        audit = accept.audit(confidence, judged, read.right, request.max_error, request.level)
        threshold = audit.chosen.threshold if audit.chosen else None
        judged_total = len(judged)
    else:
        threshold, judged_total = accept.expected_threshold(confidence, request.max_error), 0
    accepted = accept.accepted_items(confidence, threshold) & ~outside
    if out is not None:
        write_rows(out, result, np.flatnonzero(accepted))
    found = describe(request, folder, result, threshold, accepted)
    if audit is not None:
        found["audit"] = describe_audit(audit, judged_total, len(result.labels), request)
    found["sentence"] = sentence(found)
    found["notes"] = notes
    if request.as_json:
        print_object(found)
    else:
        print_found(found, request)
        suggest(found, request, int((~taught_by(folder.run, len(result.labels))).sum()))


def of_review(folder: ReadRun) -> list[str]:
    """What to say of a run whose groups people have changed: the confidences are of those before."""
    review = read_review(folder.path)
    audited = review is not None and review.claim is not None and review.claim.voided is None
    if review is not None and audited:
        try:
            # A table that is older than its log says nothing of what was decided since, which may void the claim.
            audited = is_current(folder.path)
        except InputError:  # of a damaged log, which whoever reads the review itself hears of
            audited = False
    more = " (--only accepted: those that its audit accepts)" if audited else ""
    return [f"{note}{more}." for note in before_review(folder.path, "this is about")]


def check_table(request: AcceptRequest, result: Result) -> Path:
    """The path of the table. Raises InputError where writing it would destroy something."""
    out = request.out
    assert out is not None
    if request.draw is not None and os.path.lexists(out):
        raise InputError(f"{out} is there already and may hold judgements: give another name with -o.")

    def ours(path: Path) -> bool:
        """Whether the file there is a table that this command wrote of this run."""
        if path.suffix == ".parquet":
            from coterie.prediction.results import is_ours

            return is_ours(path)
        # A .csv file has no place for a mark, but all that it may hold is known.
        whole = table_content(path, columns_of(result, np.arange(len(result.labels)))).splitlines()
        found = path.read_bytes().splitlines()
        return found[:1] == whole[:1] and set(found) <= set(whole)

    return check_output(out, [request.judged, request.run], ours=ours)


def draw_items(request: AcceptRequest, folder: ReadRun, result: Result, out: Path) -> None:
    """Write a uniform random sample for a person to judge, without those already judged. Raises InputError."""
    size = request.draw
    assert size is not None
    before = read_judgements(request.judged, folder, result).rows.tolist() if request.judged is not None else []
    own = np.flatnonzero(taught_by(folder.run, len(result.labels))).tolist()
    judged_then, needed = len(before) + size, accept.judged_needed(request.max_error, request.level)
    rows = accept.draw_sample(len(result.labels), size, request.seed, [*before, *own])
    write_rows(out, result, rows, to_judge=True)  # last: a sample that is there is refused
    few, about = [], of_review(folder)
    if judged_then < needed:
        few.append(
            f"{judged_then:,} judged items cannot show that at most {percent(request.max_error)} are wrong: that takes "
            f"at least {needed:,}, all of them right. Draw more before you judge, or give a larger --max-error."
        )
    if request.as_json:
        total = {"n": len(result.labels), "drawn": size, "judged_before": len(before), "seed": request.seed}
        print_object({"run": str(request.run), **total, "table": str(request.out), "notes": [*few, *about]})
        return
    print(f"{size:,} of {len(result.labels):,} {folder.kind} drawn at random: {request.out}")
    print("Write true or false into the column right: is the item where it belongs? False where nobody can tell.")
    judged: Any = request.out
    if before:
        print(f"Put the rows of {request.judged} and of {request.out} into one file and give that to --judged.")
        judged = "ALL.csv"
    for note in (*few, *about):
        print(f"Note: {note}")
    if few:
        return
    again = ("accept", request.run, *promised(request), "--judged", judged)
    request.speech.suggest((again, "the largest set with so few wrong, by what was judged"))


def read_judgements(path: Path, folder: ReadRun, result: Result) -> Judged:
    """The judged rows and whether each is right; groups may be named as the run's evaluation named them.

    Rows whose judgement took part in the run are left out, with a note. Raises InputError where no other is judged.
    """
    rows = (folder.metrics or {}).get("per_cluster") or []
    names = {str(row["class"]): int(row["cluster"]) for row in rows if row.get("class") is not None}
    ids = result.ids(np.arange(len(result.labels)))
    found = read_judged(path, ids, result.labels, folder.n_clusters, names)
    own = taught_by(folder.run, len(ids))
    fresh = ~own[found.rows]
    if fresh.all():
        return found
    if not fresh.any():
        size = sample_size(int((~own).sum()))
        others = (
            f"judge others (coterie accept {typed(folder.path)} --draw {size} -o {unused('others.csv')})"
            if size
            else "none is left"
        )
        raise InputError(
            f"All judged items of {path} took part in the confidences of this run, so they cannot check them: {others}."
        )
    known = counted(int((~fresh).sum()), "judged item")
    note = f"{known} took part in the confidences of this run: left out, and no evidence."
    return Judged(found.rows[fresh], found.right[fresh], found.groups[fresh], [*found.notes, note])


def write_rows(out: Path, result: Result, rows: NDArray[np.integer], *, to_judge: bool = False) -> None:
    """Write these items as a table, whole or not at all."""
    write_atomically(out, table_content(out, columns_of(result, rows, to_judge=to_judge), ours=not to_judge))


def columns_of(result: Result, rows: NDArray[np.integer], *, to_judge: bool = False) -> dict[str, Any]:
    """The table of these items; with `to_judge` a column to fill in."""
    group = "proposed" if to_judge else "label"
    columns: dict[str, Any] = {"id": result.ids(rows), group: result.labels[rows]}
    columns["confidence"] = result.confidence[rows].astype(np.float32)  # as in the result table, and 0.9 as "0.9"
    if to_judge:
        columns["right"] = [""] * len(rows)
    return columns
