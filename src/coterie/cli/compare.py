"""`coterie compare`: finished runs side by side, as text, as an object, as a page."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coterie.cli.output import check_ending, print_object
from coterie.cli.reviewed import all_before_review
from coterie.cli.speech import Speech
from coterie.common.outputs import check_output
from coterie.common.words import limit
from coterie.evaluation.trust import Trust
from coterie.report.compare import METRICS, Comparison, Row, Summary, compare
from coterie.report.compare_page import render_comparison
from coterie.report.page import is_page, write_page
from coterie.trusting import trust_runs
from coterie.types import InputError

HEAD = ("run", "data", "method", "n", "k", "seed", "epochs", "seconds", *(name.upper() for name in METRICS))
LEFT = ("run", "data", "method", "runs")  # columns of words


def compare_runs(runs: Sequence[Path], out: Path | None, speech: Speech, *, as_json: bool) -> None:
    """Print the comparison, and write its page if asked to. Raises InputError."""
    page = check_page(out) if out is not None else None
    comparison = compared(runs)
    if page is not None:
        write_page(page, render_comparison(comparison))
    if as_json:
        print_object({**comparison.as_json(), "page": str(out) if out is not None else None})
        return
    print_comparison(comparison)
    if out is not None:
        print(f"\nPage: {out}")
    else:
        speech.suggest((("compare", *runs, "-o", "compare.html"), "the same as a page"))


def compared(runs: Sequence[Path]) -> Comparison:
    """The runs side by side, and which to trust. Raises InputError."""
    comparison = compare(runs)
    # What a person judged must not choose between runs that nobody judged.
    free = [(path, row.run) for path, row in zip(comparison.paths, comparison.rows, strict=True) if not row.labels_used]
    if free:
        comparison = replace(comparison, trust=trust_runs([path for path, _ in free], [name for _, name in free]))
    for item in comparison.left_out:
        print(f"Note: left out {item.id}. {item.reason}", file=sys.stderr)
    named = zip([row.run for row in comparison.rows], comparison.paths, strict=True)
    return replace(comparison, notes=[*comparison.notes, *(f"{note}." for note in all_before_review(named))])


def check_page(out: Path) -> Path:
    """The path of the page. Raises InputError where it could not or may not be written."""
    check_ending(out, ".html")
    page = check_output(out, ours=is_page)
    if not page.parent.is_dir():
        raise InputError(f"-o {out} cannot be written: give the name of a file in a folder that is there.")
    return page


def print_comparison(comparison: Comparison) -> None:
    """Three tables: the runs, the means over seeds, the agreement of each with each."""
    free = [row for row in comparison.rows if not row.labels_used]
    judged = [row for row in comparison.rows if row.labels_used]
    if free:
        print_table([*HEAD, "confidence", "empty"], [_cells(row) for row in free])
    if judged:
        print(
            "\n" * bool(free) + "Runs in which judged labels took part; their numbers stand beside no label-free one:"
        )
        print_table([*HEAD, "confidence", "empty"], [_cells(row) for row in judged])
    if not all(row.calibrated for row in comparison.rows):
        print("* not calibrated: it does not say how many items are wrong")
    for which, used in (("", False), (" of runs in which judged labels took part", True)):
        if shown := [_summary_cells(summary) for summary in comparison.summaries if bool(summary.labels_used) == used]:
            print(f"\nOver seeds{which}, mean ± standard deviation (n - 1):")
            print_table(["data", "method", "seeds", *(name.upper() for name in METRICS), "confidence", "runs"], shown)
    if comparison.agreement:
        print("\nAgreement of any two runs, without labels: share of the items in matching groups, and ARI:")
        pairs = [[pair.first, pair.second, _number(pair.accuracy), _number(pair.ari)] for pair in comparison.agreement]
        print_table(["run", "run", "share", "ARI"], pairs)
    if comparison.trust is not None:
        print_trust(comparison.trust)
    for note in comparison.notes:
        print(f"Note: {note}")


def print_trust(found: Trust) -> None:
    """The ranks and scores in the features of other runs, then what to do."""
    print("\nWhich to trust, without labels: ranks and scores in the features of the others:")
    head = ["run", "rank", "interval", "kappa", "silhouette", "neighbours", "ARI", "odd"]
    rows = []
    for run in found.runs:
        low, high = run.interval
        numbers = (_number(value) for value in (run.kappa, run.silhouette, run.neighbours, run.ari))
        rows.append([run.run, f"{run.rank:.2f}", f"{low:.2f}-{high:.2f}", *numbers, "; ".join(run.flags)])
    print_table(head, rows)
    for sentence in found.sentences:
        print(sentence)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; words to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if name in LEFT else cell.rjust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _cells(row: Row) -> list[str]:
    epochs = "+".join(map(str, row.epochs)) or "-"
    seconds = "-" if row.seconds is None else f"{row.seconds:.0f}"
    seed = "-" if row.seed is None else str(row.seed)
    metrics = [_number(row.metrics[name]) for name in METRICS]
    words = [row.run, row.data, row.stages, f"{row.n:,}", str(row.k), seed, epochs, seconds]
    confidence = _number(row.confidence) + ("" if row.calibrated else "*")
    return [*words, *metrics, confidence, str(row.empty)]


def _summary_cells(summary: Summary) -> list[str]:
    numbers = []
    for name in (*METRICS, "confidence"):
        mean, std = summary.mean[name], summary.std[name]
        numbers.append("-" if mean is None or std is None else f"{limit(mean, 3, (1.0,))} ± {std:.3f}")
    numbers[-1] += "" if summary.calibrated else "*"
    seeds, runs = ",".join(map(str, summary.seeds)), ", ".join(summary.runs)
    return [summary.data, summary.stages, seeds, *numbers, runs]


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else limit(value, 3, (1.0,))
