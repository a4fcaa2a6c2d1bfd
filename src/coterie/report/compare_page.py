"""The page of a comparison: a table of the runs, means over seeds, and a matrix of how far any two agree."""

from __future__ import annotations

from dataclasses import dataclass

from coterie.common.words import counted
from coterie.report.compare import Comparison
from coterie.report.page import asset, template_environment
from coterie.report.wording import duration, percent


@dataclass(frozen=True)
class Cell:
    """One place of the matrix of agreements; `shade` is the matched accuracy, from 0 to 1."""

    accuracy: float | None
    ari: float | None
    title: str


def render_comparison(comparison: Comparison) -> str:
    """One self-contained page."""
    return (
        template_environment()
        .get_template("compare.html.j2")
        .render(
            style=asset("style.css"),
            title=_title(comparison),
            lede=_lede(comparison),
            rows=comparison.rows,
            measured=any(value is not None for row in comparison.rows for value in row.metrics.values()),
            summaries=comparison.summaries,
            matrix=_matrix(comparison),
            trust=comparison.trust,
            left_out=comparison.left_out,
            duration=duration,
        )
    )


def _title(comparison: Comparison) -> str:
    return f"{counted(len(comparison.rows), 'run')} side by side"


def _lede(comparison: Comparison) -> list[str]:
    """How far the runs agree, which needs no labels; a sentence each."""
    shares = [pair.accuracy for pair in comparison.agreement if pair.accuracy is not None]
    sentences = []
    if shares:
        low, high = percent(min(shares)), percent(max(shares))
        span = low if low == high else f"{low} to {high}"
        sentences.append(f"Two runs over the same data agree on {span} of the items.")
    if any(pair.accuracy is None for pair in comparison.agreement):
        sentences.append("Runs over different data cannot be held against each other item by item.")
    if any(not row.calibrated for row in comparison.rows):
        sentences.append("Confidences marked * are not calibrated.")
    if comparison.rows and all(row.metrics["acc"] is None for row in comparison.rows):
        sentences.append("No run has been compared with true labels.")
    return [*sentences, *comparison.notes]


def _matrix(comparison: Comparison) -> list[list[Cell | None]]:
    """Every run against every other, None on the diagonal; empty for one run."""
    names = [row.run for row in comparison.rows]
    if len(names) < 2:
        return []
    found: dict[tuple[str, str], Cell] = {}
    for pair in comparison.agreement:
        if pair.accuracy is None or pair.ari is None:
            text = "different data"
        else:
            text = f"{percent(pair.accuracy)} of the items in matching groups, ARI {pair.ari:z.3f}"
        for names_of in ((pair.first, pair.second), (pair.second, pair.first)):
            found[names_of] = Cell(pair.accuracy, pair.ari, f"{names_of[0]} and {names_of[1]}: {text}")
    return [[found.get((down, across)) for across in names] for down in names]
