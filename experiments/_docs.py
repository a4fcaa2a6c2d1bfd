"""What the generated parts of docs/ are made with: committed records, cells, and the command below a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from _pages import markdown, mean_and_deviation

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "results"
SCORES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI", "ece": "ECE", "confidence": "mean confidence"}

Block = Callable[[], str]
"""Makes a generated part of a page, without its markers."""


def records(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """A committed JSON file."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


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
