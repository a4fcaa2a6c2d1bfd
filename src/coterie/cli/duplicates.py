"""`coterie duplicates`: sets of near-duplicates, and of a run which of them its groups tear apart."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from coterie.cli.output import print_object
from coterie.data import open_source
from coterie.data.judged import table_content
from coterie.evaluation.near_duplicates import together
from coterie.outputs import check_output, write_atomically
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result
from coterie.records import groups_of, read_record
from coterie.records.duplicates import FILE
from coterie.report import write_report
from coterie.twins import duplicates_of, source_of
from coterie.types import InputError

LISTED = 20


def list_duplicates(source: str, out: Path | None, *, as_json: bool) -> None:
    """Print the sets; write their table where asked; of a run also into its folder and report. Raises InputError."""
    table = None
    if out is not None:
        if out.suffix not in (".csv", ".parquet"):
            raise InputError(f"-o {out} must end in .csv or .parquet.")
        table = check_output(out, [source], ours=lambda path: False)
    run = Path(source)
    of_run = os.path.lexists(run / "run.yaml")
    labels, p = None, None
    if of_run:
        record, model = read_record(run), load_model(run)
        entry = record.get("source") or {}
        opened = source_of(entry.get("origin", ""), model, entry.get("fingerprint"), run)
        result = read_result(run / "result.parquet", entry.get("n"), groups_of(record))
        if list(result.ids) != list(opened.ids):
            raise InputError(f"{entry.get('origin')} has other items than {run}: fit it again.")
        found = duplicates_of(opened, model)
        labels, p = result.labels, next(iter(result.heads.values()))
    else:
        opened = open_source(source)
        found = duplicates_of(opened)
    kept = together(p, found.sets) if p is not None else []
    sets: list[dict[str, Any]] = []
    for number, rows in enumerate(found.sets):
        one: dict[str, Any] = {"items": [str(opened.ids[row]) for row in rows.tolist()], "exact": found.exact[number]}
        if labels is not None:
            own = sorted({int(label) for label in labels[rows]})
            one |= {"groups": own, "together": kept[number]}
        sets.append(one)
    split = sum(len(one.get("groups", [])) > 1 for one in sets)
    answer = {"source": source, "n": len(opened.items), "items": found.items, "split": split, "sets": sets}
    answer |= {"limit": found.limit, "dimension": found.dimension, "table": str(out) if out is not None else None}
    if of_run:
        write_atomically(run / FILE, json.dumps(answer, indent=1) + "\n")
        write_report(run)
    if table is not None:
        write_atomically(table, table_content(table, _columns(opened.ids, found.sets, labels, kept), ours=False))
    if as_json:
        print_object(answer)
        return
    for one in sets[:LISTED]:
        torn = f"   in groups {', '.join(map(str, one['groups']))}" if len(one.get("groups", [])) > 1 else ""
        torn += f", together in {one['together']}" if torn else ""
        print(f"{'same' if one['exact'] else 'near'}  {'  '.join(one['items'])}{torn}")
    if len(sets) > LISTED:
        print(f"and {len(sets) - LISTED:,} more: --json lists all, -o writes a table.")
    said = f"{found.items:,} of {len(opened.items):,} items are in {len(sets):,} sets of near-duplicates"
    print(f"{said}; the groups of {run} tear {split:,} of them apart." if of_run else f"{said}.")


def _columns(ids: Any, sets: list[Any], labels: Any, kept: list[int]) -> dict[str, Any]:
    """A row for each item of a set; of a run its group, and the one group that the set would share."""
    rows = np.concatenate([np.empty(0, np.int64), *sets]).astype(np.int64)
    number = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    columns: dict[str, Any] = {"id": [str(ids[row]) for row in rows.tolist()], "set": number}
    return columns if labels is None else {**columns, "label": labels[rows], "together": np.array(kept)[number]}
