"""What the generated parts of docs/ are made with: committed records, cells, and the command below a table."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from _pages import markdown, mean_and_deviation

from coterie.records import judgements_in
from coterie.types import InputError

RESULTS = Path(__file__).parents[1] / "results"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results"
OLDER = BENCHMARKS / "without_bfloat16"  # of a processor without it, where benchmarks/_measure.py puts them
SCORES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "ece": "ECE", "confidence": "mean confidence"}

Block = Callable[[], str]
"""Makes a generated part of a page, without its markers."""


def records(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """A committed JSON file. Raises InputError for one of runs in which judged labels took part."""
    text = (folder / f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text, object_pairs_hook=functools.partial(_label_free, name))
    return found


def _label_free(name: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if judgements_in(found):
        raise InputError(f"Judged labels took part in a run of {name}.json: it makes no table of label-free numbers.")
    return found


def not_run(name: str, command: str) -> str | None:
    """What stands for a part without records, with the command that makes them; None where they are there."""
    return None if (RESULTS / f"{name}.json").exists() else f"Not run: `{command}`.\n"


def table(head: list[str], rows: list[list[str]], command: str) -> str:
    return f"{markdown(head, rows)}\n\n`{command}`\n"


def table_of(page: str, command: str) -> str:
    """The first table of a page of results, with the command."""
    lines = page.split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    last = next(i for i in range(first, len(lines)) if not lines[i].startswith("|"))
    return "\n".join(lines[first:last]) + f"\n\n`{command}`\n"


def score_cells(heads: list[dict[str, float]], metrics: Iterable[str]) -> list[str]:
    """Mean and deviation of each metric over the heads of several seeds."""
    return [mean_and_deviation([head[key] for head in heads]) for key in metrics]


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def mean_percent(values: list[float], digits: int = 1) -> str:
    return percent(statistics.mean(values), digits)
