"""`coterie duplicates`: sets of near-duplicates, and of a run which of them its groups tear apart."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.cli.keeping import Keeping
from coterie.cli.output import check_beside, check_ending, print_object, print_skipped, skipped_items
from coterie.cli.speech import Speech, to_review
from coterie.common.outputs import check_output, write_atomically
from coterie.common.words import counted
from coterie.data import open_source
from coterie.data.judged import table_content
from coterie.data.originals import is_gone, lies_at
from coterie.evaluation.near_duplicates import Duplicates, together
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result
from coterie.records import groups_of, read_record
from coterie.records.duplicates import FILE
from coterie.report import write_report
from coterie.review.before import before_review
from coterie.twins import duplicates_of, source_of
from coterie.types import InputError, Source

LISTED = 20


@dataclass(frozen=True)
class Search:
    """The sets of a source or of a finished run's source; of a run also the groups of the items.

    labels: (n,) groups. together: for each set the one group that its items would share.
    """

    opened: Source
    found: Duplicates
    labels: NDArray[np.integer] | None = None
    together: Sequence[int] = ()


def list_duplicates(source: str, out: Path | None, speech: Speech, *, as_json: bool) -> None:
    """Print the sets; write their table where asked; of a run also into its folder and report. Raises InputError."""
    table = None
    if out is not None:
        check_ending(out, ".csv", ".parquet")
        if out.suffix == ".parquet":
            check_beside(out, [source])
        table = check_output(out, [source])
    run = Path(source)
    of_run = os.path.lexists(run / "run.yaml")
    looked = look_at_run(run) if of_run else look_at_source(source)
    sets, found = described(looked), looked.found
    split = sum(len(one.get("groups", [])) > 1 for one in sets)
    answer = {"source": source, "n": len(looked.opened.items), "items": found.items, "split": split, "sets": sets}
    skipped = skipped_items(looked.opened.skipped)
    answer |= {"skipped": len(skipped), "skipped_items": skipped}
    answer |= {"limit": found.limit, "dimension": found.dimension, "table": str(out) if out is not None else None}
    about = before_review(run, "the groups here are") if of_run else []
    notes = [*looked.opened.notes, *(f"{note}." for note in about)]
    keeping = Keeping(run) if of_run else None
    if keeping is not None:
        keeping.keep(FILE, lambda: write_atomically(run / FILE, json.dumps(answer, indent=1) + "\n"))
        keeping.keep("report.html", lambda: write_report(run))
    # Last, for a table that is there is refused: what was stopped before it can be given again.
    if table is not None:
        write_atomically(table, table_content(table, columns_of(looked), ours=False))
    if keeping is not None:
        keeping.say()
    if as_json:
        print_object({**answer, "notes": notes})
        return
    print_sets(answer, run if of_run else None)
    print_skipped(skipped)
    for note in notes:
        print(f"Note: {note}")
    if split:
        speech.suggest(to_review(run))
    elif sets and out is None:
        speech.suggest((("duplicates", source, "-o", "duplicates.csv"), "all of them as a table"))


def look_at_source(source: str) -> Search:
    """Find the duplicates of a source by the content and the values of its items. Raises InputError."""
    opened = open_source(source, family="photo")  # of no matter here, so there is no note on it
    return Search(opened, duplicates_of(opened))


def look_at_run(run: Path) -> Search:
    """Find the duplicates of a run by its features. Its source is opened again; InputError where it has changed."""
    record, model = read_record(run), load_model(run)
    entry = record.get("source") or {}
    origin = lies_at(entry)
    if is_gone(entry):
        raise InputError(
            f"{origin}, which {run} was fitted on, is not there any more: give the source where it is now."
        )
    opened = source_of(origin, model, entry.get("fingerprint"), run)
    result = read_result(run / "result.parquet", entry.get("n"), groups_of(record))
    if list(result.ids) != list(opened.ids):
        raise InputError(f"{entry.get('origin')} has other items than {run}: fit it again.")
    found = duplicates_of(opened, model)
    return Search(opened, found, result.labels, together(next(iter(result.heads.values())), found.sets))


def described(looked: Search) -> list[dict[str, Any]]:
    """Each set, for the object of --json."""
    sets = []
    for number, rows in enumerate(looked.found.sets):
        items = [str(looked.opened.ids[row]) for row in rows.tolist()]
        one: dict[str, Any] = {"items": items, "exact": looked.found.exact[number]}
        if looked.labels is not None:
            groups = sorted({int(label) for label in looked.labels[rows]})
            one |= {"groups": groups, "together": looked.together[number]}
        sets.append(one)
    return sets


def print_sets(answer: dict[str, Any], run: Path | None) -> None:
    """A line for each of the first sets, and how many there are."""
    sets = answer["sets"]
    if not sets:
        print(f"None of the {answer['n']:,} items is a near-duplicate of another.")
        return
    for one in sets[:LISTED]:
        torn = f"   in groups {', '.join(map(str, one['groups']))}" if len(one.get("groups", [])) > 1 else ""
        torn += f", together in {one['together']}" if torn else ""
        print(f"{'same' if one['exact'] else 'near'}  {'  '.join(one['items'])}{torn}")
    if len(sets) > LISTED:
        print(f"and {len(sets) - LISTED:,} more: --json lists all, -o writes a table.")
    said = f"{answer['items']:,} of {answer['n']:,} items are in {counted(len(sets), 'set')} of near-duplicates"
    parted = f"; in {run}, {answer['split']:,} of these sets lie in more than one group" if run is not None else ""
    print(f"{said}{parted}.")


def columns_of(looked: Search) -> dict[str, Any]:
    """A row for each item of a set; of a run its group, and the one group that the set would share."""
    sets = looked.found.sets
    rows = np.concatenate([np.empty(0, np.int64), *sets]).astype(np.int64)
    number = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    columns: dict[str, Any] = {"id": [str(looked.opened.ids[row]) for row in rows.tolist()], "set": number}
    if looked.labels is None:
        return columns
    return {**columns, "label": looked.labels[rows], "together": np.array(looked.together)[number]}
