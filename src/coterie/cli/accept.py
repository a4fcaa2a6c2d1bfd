"""`coterie accept`: which items may be taken as they are, and the sample that a person judges to be sure of it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.cli.output import print_object
from coterie.data.judged import Judged, read_judged, table_content
from coterie.evaluation import accept
from coterie.outputs import check_output, write_atomically
from coterie.records.recalibration import read_recalibration
from coterie.report.read import Result, RunFolder, read_finished, read_recalibrated
from coterie.types import InputError


@dataclass(frozen=True)
class AcceptRequest:
    """What the user asked `accept` for."""

    run: Path
    max_error: float = 0.05
    level: float = 0.95
    judged: Path | None = None
    out: Path | None = None
    draw: int | None = None
    seed: int = 0
    recalibrated: bool = False  # by the confidences that a judged sample set right
    as_json: bool = False


def accept_items(request: AcceptRequest) -> None:
    """Find the accept set, say what it promises, write its table if asked to. Raises InputError."""
    if request.draw is not None and request.out is None:
        raise InputError("--draw needs a file to write: give it with -o, for example -o to-judge.csv.")
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
            f"The confidences of {request.run} are not calibrated, so they promise nothing: calibrate them by the same "
            f"fit command with --resume --calibrate, or judge a sample (coterie accept {request.run} --draw 300 "
            "-o to-judge.csv)."
        )
    audit, notes = None, []
    if request.judged is not None:
        read = read_judgements(request.judged, folder, result)
        judged, notes = read.rows, read.notes
        audit = accept.audit(result.confidence, judged, read.right, request.max_error, request.level)
        threshold = audit.chosen.threshold if audit.chosen else None
        judged_total = len(judged)
    else:
        threshold, judged_total = accept.expected_threshold(result.confidence, request.max_error), 0
    accepted = accept.accepted_items(result.confidence, threshold)
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


def check_table(request: AcceptRequest, result: Result) -> Path:
    """Where the table goes. Raises InputError where something would be lost by writing it."""
    out = request.out
    assert out is not None
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"-o {out} must end in .csv or .parquet.")
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


def draw_items(request: AcceptRequest, folder: RunFolder, result: Result, out: Path) -> None:
    """Write a uniform random sample for a person to judge, without those already judged. Raises InputError."""
    size = request.draw
    assert size is not None
    before = read_judgements(request.judged, folder, result).rows.tolist() if request.judged is not None else []
    rows = accept.draw_sample(len(result.labels), size, request.seed, before)
    write_rows(out, result, rows, to_judge=True)
    if request.as_json:
        total = {"n": len(result.labels), "drawn": size, "judged_before": len(before), "seed": request.seed}
        print_object({"run": str(request.run), **total, "table": str(request.out)})
        return
    print(f"{size:,} of {len(result.labels):,} {folder.kind} drawn at random: {request.out}")
    print("Write true or false into the column right: is the item where it belongs? False where nobody can tell. Then:")
    if before:
        print(f"Put the rows of {request.judged} and of {request.out} into one file and give that to --judged.")
    else:
        print(f"coterie accept {request.run} --max-error {request.max_error:g} --judged {request.out}")


def read_judgements(path: Path, folder: RunFolder, result: Result) -> Judged:
    """The judged rows and whether each is right; groups may be named as the run's evaluation named them."""
    rows = (folder.metrics or {}).get("per_cluster") or []
    names = {str(row["class"]): int(row["cluster"]) for row in rows if row.get("class") is not None}
    ids = result.ids(np.arange(len(result.labels)))
    return read_judged(path, ids, result.labels, folder.n_clusters, names)


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


def describe(
    request: AcceptRequest, folder: RunFolder, result: Result, threshold: float | None, accepted: NDArray[np.bool_]
) -> dict[str, Any]:
    """The object of --json, but for the audit and the sentence."""
    run, count = folder.run, int(accepted.sum())
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
        "labels_used": (read_recalibration(folder.path) or {}).get("labels_used") if request.recalibrated else None,
        "warnings": [str(text) for text in run.get("warnings") or []],
        "table": str(request.out) if request.out is not None else None,
    }


def describe_audit(audit: accept.Audit, judged: int, n: int, request: AcceptRequest) -> dict[str, Any]:
    """What the claim stands on; where no threshold passed, how many more judgements would do if all were right.

    `needed` is the number of judged items that the accept set must hold if none is wrong. `more_there` would be needed
    beyond those judged in the set of the first threshold, and `more` so many of all items, drawn as before.
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
        found |= {"more_there": there, "more": math.ceil(there * n / last.accepted)}
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
    """The sentence, what it stands on, and a line per group."""
    print(found["sentence"])
    if found["threshold"] is not None:
        print(f"Accepted is every item with a confidence of at least {found['threshold']:.4f}.")
    if found["audit"] is not None:
        print_audit(found["audit"])
    elif found["labels_used"]:
        print(f"Labels were used: the confidences are by the map of {found['labels_used']['judged']} judged items.")
    else:
        print(
            "Nobody has checked this: it is as good as the calibration. "
            f"To be sure, judge a sample: coterie accept {request.run} --draw 300 -o to-judge.csv"
        )
    for text in found["warnings"]:
        print(f"Note: {text}")
    if found["accepted"]:
        print(f"{'group':>6}{'size':>10}{'accepted':>10}{'share':>9}{'expected error':>16}")
        for row in found["per_cluster"]:
            share = percent(row["accepted"] / row["size"]) if row["size"] else "-"
            error = percent(row["expected_error"]) if row["accepted"] else "-"
            print(f"{row['cluster']:>6}{row['size']:>10,}{row['accepted']:>10,}{share:>9}{error:>16}")
    for note in found["notes"]:
        print(f"Note: {note}")
    if found["table"] is not None:
        print(f"Table: {found['table']}")


def print_audit(audit: dict[str, Any]) -> None:
    """What was judged, and what would be needed where that was not enough."""
    seen = f"{audit['judged_accepted']} judged items, {audit['wrong']} of them wrong"
    if audit["passed"]:
        print(
            f"This stands on {seen}, in the accept set ({audit['judged']} were judged in all): its error is at most "
            f"{percent(audit['bound'])}. It holds if the judged items were drawn at random from all items, as --draw "
            "does."
        )
        return
    first = audit["tried"][0]
    print(
        f"The strictest set tried, {first['accepted']:,} items with a confidence of at least {first['threshold']:.4f}, "
        f"holds {seen}: its error may be up to {percent(audit['bound'])}. With none wrong {audit['needed']} judged "
        f"items would do; with those it takes {audit['more_there']} more in that set, all of them right, which are "
        f"about {audit['more']:,} drawn from all items."
    )


def percent(share: float) -> str:
    """0.05 -> "5 %", 0.04873 -> "4.87 %"."""
    return f"{100 * share:.3g} %"
