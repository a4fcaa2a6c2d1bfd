"""`coterie recalibrate`: confidences set right by a judged sample, in a table of their own; the run stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from coterie.cli.accept import read_judgements
from coterie.cli.output import check_ending, percent, print_object
from coterie.cli.reviewed import judged_in, taught
from coterie.cli.speech import Speech
from coterie.common.outputs import check_output, replacing, typed, write_atomically
from coterie.evaluation.recalibration import Kind, Map, Recalibration, recalibrate, with_confidence
from coterie.prediction.results import is_ours, read_result, result_content, write_result
from coterie.records import groups_of
from coterie.records.recalibration import FILE, TABLE, read_recalibration
from coterie.report import write_report
from coterie.report.read import read_finished
from coterie.report.wording import gap
from coterie.review.before import before_review
from coterie.types import Assignments, InputError


def recalibrate_run(run: Path, judged: Path, kind: str, out: Path | None, speech: Speech, *, as_json: bool) -> None:
    """Fit the map, say whether it helps, and if so write table, record and report. Raises InputError."""
    if kind not in get_args(Kind):
        raise InputError(f"--map is {kind!r}: it takes {', '.join(get_args(Kind))}.")
    check_ending(out or run / TABLE, ".parquet")
    folder, result = read_finished(run)
    if not os.access(run, os.W_OK):
        raise InputError(f"{run} may not be written, and the map is kept there: change its rights, or give a copy.")
    reads = [judged, *([run] if out is not None else [])]
    table = check_output(out or run / TABLE, reads, ours=is_ours, own=run / TABLE)
    own = check_output(run / TABLE, [judged], ours=is_ours, own=run / TABLE)
    read = read_judgements(judged, folder, result)
    found = recalibrate(result.confidence[read.rows], read.right, kind)  # type: ignore[arg-type]
    digest = hashlib.sha256(judged.read_bytes()).hexdigest()
    used = {"judged": found.judged, "files": [{"name": judged.name, "sha256": digest, "n": found.judged}]}
    judgements = found.judged + judged_in(run)
    answer: dict[str, Any] = {"run": str(run), **found.as_json(), "labels_used": judgements, "table": None}
    if found.helps:
        whole = read_result(run / "result.parquet", len(result.labels), groups_of(folder.run))
        heads = {name: torch.tensor(p) for name, p in whole.heads.items()}
        said = Assignments(whole.ids, next(iter(heads.values())), heads)
        answered = remapped(said, found.map)
        if table != own:
            write_result(table, answered, labels_used=judgements)
        # The run's own table goes with its map: a kill between the two leaves neither, not one beside the other's.
        with replacing(own) as beside:
            beside.write_bytes(result_content(answered, judgements))
            (run / FILE).unlink(missing_ok=True)
        answer["table"] = str(table)
        write_atomically(
            run / FILE, json.dumps({**answer, "run": run.resolve().name, "labels_used": used}, indent=1) + "\n"
        )
        answer["report"] = str(write_report(run))
    notes = (*taught(run), *before_review(run, "this is about"))
    answer["notes"] = [*read.notes, *(f"{note}." for note in notes)]
    if as_json:
        print_object(answer)
    else:
        print_recalibration(found, answer)
        how = ("--recalibrated",) if found.helps else ("--judged", judged)
        speech.suggest((("accept", run, *how), "which items may be taken as they are"))


def remapped(said: Assignments, chosen: Map) -> Assignments:
    """The same groups with mapped confidences as the first head, `judged`, before those that there are."""
    p = said.probabilities.numpy()
    new = torch.from_numpy(with_confidence(p, chosen(p.max(1))))
    return replace(said, probabilities=new, heads={"judged": new, **said.heads})


def map_of(run: Path) -> tuple[Map, int]:
    """The map of a run, and how many judgements stand behind it and the run. Raises InputError without a map."""
    found = read_recalibration(run)
    if found is None:
        raise InputError(
            f"{run} has no map from a judged sample: coterie recalibrate {typed(run)} --judged FILE makes it."
        )
    entry = found["map"]
    chosen = Map(entry["kind"], tuple(entry["theta"]), tuple((x, y) for x, y in entry.get("corners") or []))
    return chosen, int(found["judged"]) + judged_in(run)


def remap_by(run: Path, said: Assignments) -> tuple[Assignments, int]:
    """New items by the map of a run, and how many judgements stand behind both. Raises InputError without a map."""
    chosen, judgements = map_of(run)
    return remapped(said, chosen), judgements


def print_recalibration(found: Recalibration, answer: dict[str, Any]) -> None:
    """What was judged, how far off the confidences were and are, and where the table lies."""
    right = 1 - found.wrong / found.judged
    print(
        f"{found.judged} items judged, {percent(right)} right (they must be drawn at random from all, as --draw does)."
    )
    for name, said in (("Before", found.before), ("After", found.after)):
        low, high = said.gap_interval
        print(
            f"{name}: mean confidence {percent(said.confidence)}, {gap(said.gap)} (95 % interval "
            f"{100 * low:+z.1f} to {100 * high:+z.1f} points); calibration error of 5 bins beyond chance "
            f"{100 * said.ece:+z.1f} points (p = {said.p:.2g})."
        )
    if found.helps:
        print(
            f"Map: {found.map.kind}, fitted on all judged items. The numbers under After come from maps that were "
            "fitted without the items that they are measured on."
        )
        print(f"Labels were used. Table: {answer['table']}\nReport: {answer['report']}")
    else:
        print(
            "The judged items do not show that a map helps (log loss less "
            f"{found.gain:z.3f} ± {found.gain_error:.3f}): nothing was written."
        )
    for note in answer["notes"]:
        print(f"Note: {note}")
