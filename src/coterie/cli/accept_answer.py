"""What `coterie accept` answers: as an object, and in sentences for a person."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.cli.output import percent
from coterie.cli.speech import NextStep, Speech
from coterie.common.words import counted, limit
from coterie.evaluation import accept
from coterie.records import judgements_in
from coterie.records.recalibration import read_recalibration
from coterie.report.judged import how_far_off
from coterie.report.read import ReadRun, Result

SAMPLE = 300  # items that are proposed to be judged
LINES = 200  # groups in the table for a person
ERROR, LEVEL = 0.05, 0.95  # what is asked for unless the user says otherwise


@dataclass(frozen=True)
class AcceptRequest:
    """What the user asked `accept` for."""

    run: Path
    max_error: float = ERROR
    level: float = LEVEL
    judged: Path | None = None
    out: Path | None = None
    draw: int | None = None
    seed: int = 0
    recalibrated: bool = False  # by the confidences that a judged sample set right
    as_json: bool = False
    speech: Speech = field(default_factory=Speech)


def sample_size(n: int) -> int:
    """How many of n items to propose for a judged sample."""
    return min(SAMPLE, n)


def describe(
    request: AcceptRequest, folder: ReadRun, result: Result, threshold: float | None, accepted: NDArray[np.bool_]
) -> dict[str, Any]:
    """The object of --json, without the audit and the sentence."""
    run, count = folder.run, int(accepted.sum())
    by_map = int((read_recalibration(folder.path) or {}).get("judged") or 0) if request.recalibrated else 0
    return {
        "run": str(request.run),
        "data": (run.get("source") or {}).get("name"),
        "method": (run.get("stages") or [{}])[-1].get("name"),
        "n": len(accepted),
        "k": folder.n_clusters,
        "seed": run.get("seed"),
        "max_error": request.max_error,
        "threshold": threshold,
        "accepted": count,
        "share": count / len(accepted),
        "expected_error": float(1 - result.confidence[accepted].mean()) if count else None,
        "per_cluster": accept.by_cluster(result.labels, result.confidence, accepted, folder.n_clusters),
        "audit": None,
        "calibrated": folder.calibrated,
        "labels_used": by_map + judgements_in(run),
        "judged_before": None if request.recalibrated else how_far_off(read_recalibration(folder.path)),
        "warnings": [str(text) for text in run.get("warnings") or []],
        "table": str(request.out) if request.out is not None else None,
    }


def describe_audit(audit: accept.Audit, judged: int, n: int, request: AcceptRequest) -> dict[str, Any]:
    """What the claim stands on; where no threshold passed, how many more judgements would do if all were right.

    `needed` is the number of judged items that the accept set must hold if none is wrong. `more_there` would be needed
    beyond those judged in the set of the first threshold, and `more` so many of all items, drawn as before; None where
    there are not as many.
    """
    last = audit.chosen or audit.steps[0]
    found = {
        "judged": judged,
        "confidence_level": request.level,
        "passed": audit.chosen is not None,
        "judged_accepted": last.judged,
        "wrong": last.wrong,
        "bound": last.bound,
        "needed": accept.judged_needed(request.max_error, request.level),
        "tried": [asdict(step) for step in audit.steps],
    }
    if audit.chosen is None:
        there = accept.judged_needed(request.max_error, request.level, last.wrong) - last.judged
        more = math.ceil(there * n / last.accepted)
        enough = there <= last.accepted - last.judged and more <= n - judged
        found |= {"more_there": there, "more": more if enough else None}
    return found


def sentence(found: dict[str, Any]) -> str:
    """The whole answer in one plain sentence."""
    audit, most = found["audit"], percent(found["max_error"])
    accepted = f"{found['accepted']:,} of {found['n']:,} accepted"
    if audit is not None and audit["passed"]:
        return f"{accepted}; at most {most} of them wrong, with {percent(audit['confidence_level'])} confidence."
    if audit is not None:
        return f"Nothing accepted: at no threshold tried do the judged items show that at most {most} are wrong."
    if found["accepted"]:
        return f"{accepted}; {percent(found['expected_error'])} of them are expected to be wrong, by their confidences."
    return f"Nothing accepted: by their confidences, more than {most} even of the surest items are wrong."


def print_found(found: dict[str, Any], request: AcceptRequest) -> None:
    """The sentence, what it rests on, and a line per group."""
    print(found["sentence"])
    if found["threshold"] is not None:
        print(f"Accepted is every item with a confidence of at least {limit(found['threshold'], 4)}.")
    if found["audit"] is not None:
        print_audit(found["audit"])
    elif request.recalibrated:
        print(f"Labels were used: the confidences stand on {counted(found['labels_used'], 'judgement')}.")
    elif found["judged_before"]:
        print(f"{found['judged_before']} Take the corrected ones: --recalibrated.")
    else:
        print("Nobody has checked this: it is as good as the calibration. To be sure, judge a sample.")
    for text in found["warnings"]:
        print(f"Note: {text}")
    if found["accepted"]:
        print(f"{'group':>6}{'size':>10}{'accepted':>10}{'share':>9}{'expected error':>16}")
        rows = found["per_cluster"]
        for row in rows[:LINES]:
            share = percent(row["accepted"] / row["size"]) if row["size"] else "-"
            error = percent(row["expected_error"]) if row["accepted"] else "-"
            print(f"{row['cluster']:>6}{row['size']:>10,}{row['accepted']:>10,}{share:>9}{error:>16}")
        if len(rows) > LINES:
            print(f"The other {len(rows) - LINES:,} groups are in the answer of --json.")
    for note in found["notes"]:
        print(f"Note: {note}")
    if found["table"] is not None:
        print(f"Table: {found['table']}")


def print_audit(audit: dict[str, Any]) -> None:
    """What was judged, and what would be needed where that was not enough."""
    seen = f"{counted(audit['judged_accepted'], 'judged item')}, {audit['wrong']} of them wrong"
    if audit["passed"]:
        print(
            f"Evidence: {seen}, in the accept set ({audit['judged']} were judged in all): its error is at most "
            f"{percent(audit['bound'])}. It holds if the judged items were drawn at random from all items, as --draw "
            "does."
        )
        return
    first = audit["tried"][0]
    more = "there are not as many, so no further sample shows it: give a larger --max-error."
    if audit["more"] is not None:
        more = f"for that, draw about {audit['more']:,} more from all items."
    print(
        f"The strictest set tried, {counted(first['accepted'], 'item')} with a confidence of at least "
        f"{limit(first['threshold'], 4)}, holds {seen}: its error may be up to {percent(audit['bound'])}. "
        f"If none were wrong, {audit['needed']} judged items would be enough. "
        f"With those that were wrong it takes {audit['more_there']:,} more judged items in that set, "
        f"all of them right; {more}"
    )


def to_judge(run: Path, free: int, options: Sequence[object] = ()) -> NextStep:
    """The step to a sample for a person to judge, of `free` items."""
    words = ("accept", run, "--draw", sample_size(free), "-o", unused("to-judge.csv"), *options)
    return words, "a sample to judge, which shows how many are wrong"


def unused(name: str) -> str:
    """A name for a sample in this folder: one that is there may hold judgements, and is refused."""
    stem, ending = os.path.splitext(name)
    others = (f"{stem}-{number}{ending}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], others) if not os.path.lexists(one))


def promised(request: AcceptRequest) -> list[object]:
    """The options of a command after this one, with which it makes the same promise; the usual ones are left out."""
    given = [("--max-error", request.max_error, ERROR), ("--confidence-level", request.level, LEVEL)]
    return [word for option, value, usual in given if value != usual for word in (option, value)]


def suggest(found: dict[str, Any], request: AcceptRequest, free: int) -> None:
    """Suggest a judged sample where none was used, and writing the table where none was written.

    free: items that may be drawn, those whose judgement took part in the run left out.
    """
    if found["audit"] is None and not request.recalibrated:
        if free:
            request.speech.suggest(to_judge(request.run, free, promised(request)))
    elif found["accepted"] and found["table"] is None:
        how = ("--judged", request.judged) if request.judged is not None else ("--recalibrated",)
        again = ("accept", request.run, *promised(request), *how, "-o", "accepted.csv")
        request.speech.suggest((again, "write the accepted items as a table"))
