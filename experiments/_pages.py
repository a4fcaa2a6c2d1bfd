"""The page of a table: our mean and deviation over seeds beside the paper's numbers, as Markdown, and all records."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _tables import METRICS, Row, Study, Table, first_stage, work

from coterie.common.outputs import write_atomically
from coterie.training.device import machine

NAMES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "ece": "ECE", "auroc": "AUROC", "aurc": "AURC", "fpr95": "FPR95"}

Records = Mapping[tuple[str, int], dict[str, Any]]
"""By the row's key and the seed."""


def in_words(machine: dict[str, Any]) -> str:
    """The machine of a record: what trained there."""
    if "gpu" in machine:
        return str(machine["gpu"])
    return f"{machine['processor']}, threads: {machine['threads']}"


def mean_and_deviation(values: list[float]) -> str:
    """In percent, with the sample's standard deviation where there are several: "93.9 ± 4.5"."""
    if not values:
        return "–"
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def over_seeds(records: list[dict[str, Any]], metrics: Iterable[str]) -> list[str]:
    """The cells of one row: each metric's mean and deviation, the mean seconds, the seeds."""
    numbers = [mean_and_deviation([record["metrics"][key] for record in records]) for key in metrics]
    seconds = statistics.mean(record["seconds"] for record in records)
    return [*numbers, f"{seconds:.0f}", ", ".join(str(record["seed"]) for record in records)]


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table of these rows, without the line's end."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def cells(table: Table, row: Row, records: list[dict[str, Any]]) -> list[str]:
    """Our numbers of a row, column by column; a run that failed is counted in the first."""
    done = [record for record in records if not record["failed"]]
    texts = []
    for column in table.columns:
        of_head = [record["heads"][row.head] if row.head else record["metrics"] for record in done]
        pairs = zip(of_head, done, strict=True)
        values = [numbers[column] if column in METRICS else record["health"].get(column) for numbers, record in pairs]
        texts.append(mean_and_deviation([value for value in values if value is not None]))
    if len(done) < len(records):
        texts[0] += f" ({len(records) - len(done)} of {len(records)} failed)"
    return texts


def page(table: Table, study: Study, found: Records, seeds: list[int]) -> str:
    """The table in Markdown, in percent, with what it was made of and the paper's numbers beside ours."""
    sets = list(dict.fromkeys(name for row in table.rows for name in row.paper))
    ours = [NAMES.get(column, column.replace("_", " ")) for column in table.columns]
    theirs = [f"paper, {name}: {' / '.join(table.printed)}" for name in sets]
    lines = []
    for row in table.rows:
        records = [found[row.key, seed] for seed in seeds]
        printed = [
            " / ".join("–" if value is None else str(value) for value in row.paper[name]) if name in row.paper else ""
            for name in sets
        ]
        lines.append([row.title, *cells(table, row, records), *printed])
    sample = found[table.rows[0].key, seeds[0]]
    runs = {(row.key, seed) for row in table.rows for seed in seeds}
    seconds = sum(found[one]["seconds"] or 0 for one in runs)
    origin = f"All rows start from one run of {study.start}, seed 0" if study.start else "All rows start from scratch"
    about = (
        f"{study.name}: {sample['n']} images, {study.ground.n_clusters} groups; backbone {sample['backbone']}, "
        f"{sample['precision']}. "
        f"{origin}; seeds {', '.join(map(str, seeds))}; last epoch. Percent, "
        f"mean ± standard deviation over seeds. {seconds:.0f} s for {len(runs)} runs on "
        f"{in_words(sample['machine'])}. The paper's numbers: other data, ResNet-34, a GPU."
    )
    body = markdown(["", *ours, *theirs], lines)
    return f"# {table.title}\n\n{about}\n\n{body}\n" + (f"\n{table.note}\n" if table.note else "")


def write_table(table: Table, study: Study, found: Records, seeds: list[int], command: str, to: Path) -> None:
    """`<table>_<data>.json` with every record, and the page beside it."""
    rows = [
        {
            "title": row.title,
            "settings": dict(row.settings),
            "head": row.head,
            "paper": {name: list(values) for name, values in row.paper.items()},
            "records": [found[row.key, seed] for seed in seeds],
        }
        for row in table.rows
    ]
    content: dict[str, Any] = {"command": command, "machine": machine(), "title": table.title, "printed": table.printed}
    content |= {"start": first_stage(study), "rows": rows}
    file = to / f"{table.name}_{study.name}.json"
    write_atomically(file, json.dumps(content, indent=1) + "\n")
    write_atomically(file.with_suffix(".md"), page(table, study, found, seeds) + f"\n`{command}`\n")


def write_tables(tables: list[Table], study: Study, seeds: list[int], command: str, to: Path) -> None:
    """Make the records that are missing, write every table and print its page."""
    found = work(study, tables, seeds)
    for table in tables:
        write_table(table, study, found, seeds, command, to)
        print((to / f"{table.name}_{study.name}.md").read_text(encoding="utf-8"))
