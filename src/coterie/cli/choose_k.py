"""`coterie choose-k`: how many groups, as a table, as an object, and in the report of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from coterie.choosing import choose_k
from coterie.cli.compare import print_table
from coterie.cli.keeping import Keeping
from coterie.cli.output import print_object
from coterie.cli.settings import check_seed
from coterie.cli.speech import Speech
from coterie.common.outputs import write_atomically
from coterie.evaluation.group_rule import Choice
from coterie.records.run import CHOICE
from coterie.report import write_report

# What a column is called, and its format; small numbers are good where the arrow points down.
COLUMNS = {
    "prediction_strength": "holds",
    "stability": "stable",
    "excess": "above chance",
    "error": "±",
    "ambiguous": "ambiguous ↓",
    "gap": "gap",
    "silhouette": "silhouette",
    "generalisation": "kappa",
    "coding_rate": "coding ↓",
}


def choose_groups(
    source: str, least: int, most: int | None, seed: int, columns: str | None, speech: Speech, *, as_json: bool
) -> None:
    """Print the choice; of a run also into its folder and its report. Raises InputError."""
    check_seed(seed)
    with speech.bar() as bar:
        found = choose_k(source, least=least, most=most, random_state=seed, columns=columns, progress=bar.looked)
    answer = {"source": source, **found.as_json()}
    run = Path(source)
    of_run = os.path.lexists(run / "run.yaml")
    if of_run:
        keeping = Keeping(run)
        keeping.keep(CHOICE, lambda: write_atomically(run / CHOICE, json.dumps(answer, indent=1) + "\n"))
        keeping.keep("report.html", lambda: write_report(run))
        keeping.say()
        answer |= {"report": str(keeping.kept["report.html"])} if keeping.lost is None else {}
    if as_json:
        print_object(answer)
        return
    print_choice(found)
    if "report" in answer:
        print(f"Report: {answer['report']}")
    elif of_run:  # which `fit` does not take
        return
    else:
        k, purpose = (found.k, f"{found.k} groups") if found.clear else ("K", "K groups, a number of your choice")
        same = () if columns is None else ("--columns", columns)
        speech.suggest((("fit", source, "-k", k, *same), f"sort the items into {purpose}"))


def print_choice(found: Choice) -> None:
    """The curve, then the answer, which is what is read last."""
    rows = [[_mark(found, row.k), *(f"{getattr(row, name):.2f}" for name in COLUMNS)] for row in found.curve]
    print_table(["groups", *COLUMNS.values()], rows)
    print(f"Each alone: {', '.join(f'{name} {k}' for name, k in found.ticks.items())}.")
    if found.levels:
        print(f"Levels of FINCH's hierarchy: {', '.join(map(str, found.levels))} groups.")
    for note in found.notes:
        print(f"Note: {note}")
    print(f"Number of groups: {found.sentence}" if found.clear else found.sentence)
    print(f"Looked at {found.n:,} items.")


def _mark(found: Choice, k: int) -> str:
    if not found.clear:
        return f"{k} "
    return f"{k}{'*' if k == found.k else '+' if found.plateau[0] <= k <= found.plateau[1] else ' '}"
