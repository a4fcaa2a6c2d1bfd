"""`coterie evaluate` and `coterie report`: a finished run beside true labels or a second source, and its page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from coterie.cli.keeping import Keeping
from coterie.cli.labels import find_labels, of_this_run
from coterie.cli.output import METRICS, print_object, run_summary
from coterie.cli.speech import Speech, to_review
from coterie.common.outputs import check_folder
from coterie.common.words import counted, limit
from coterie.data.originals import is_gone, lies_at
from coterie.measuring import keep_metrics, measure_run
from coterie.prediction.results import read_result
from coterie.records import groups_of, read_record
from coterie.records.run import check_finished
from coterie.report import write_report
from coterie.review.before import before_review
from coterie.review.table import reviewed_table
from coterie.types import InputError, Skipped


def evaluate_finished(
    run: Path,
    labels: str | None,
    label_column: str | None,
    ood: str | None,
    ood_score: str | None,
    device: str,
    speech: Speech,
    *,
    as_json: bool,
) -> None:
    """Measure a run against true labels, against the items of a second source, or both. Raises InputError."""
    if ood is None and ood_score is not None:
        raise InputError("--ood-score needs a second source to compare with: give it with --ood.")
    if ood is None and device != "auto":
        raise InputError("--device is for the scores of --ood, and labels need no net: leave --device out.")
    record = read_record(run)
    check_finished(run)
    if labels is not None and labels != "folders":
        check_folder(run, [labels], writes=("metrics.json", "ood.json", "report.html"))
    asked = labels is not None or label_column is not None or ood is None
    notes = [f"{note}." for note in before_review(run, "these numbers are about")]
    keeping = Keeping(run)
    metrics, foreign = None, None
    if asked:
        metrics = evaluate_labels(run, record, labels, label_column)
        keeping.keep("metrics.json", lambda: keep_metrics(run, metrics))
        keeping.keep("report.html", lambda: write_report(run))
    if ood is not None:
        from coterie.cli.ood import keep_ood, measure_ood

        with speech.bar() as bar:

            def watch(items: int) -> Callable[[int], None]:
                bar.items = items
                return bar.predicted

            foreign = measure_ood(run, ood, ood_score, device, watch)
        keeping.keep("ood.json", lambda: keep_ood(run, foreign))
    keeping.say()
    if as_json:
        answer = run_summary(run, record)
        answer |= {"metrics": metrics} if metrics is not None else {}
        answer |= {"notes": notes}
        print_object(answer | ({"ood": foreign} if foreign is not None else {}))
        return
    if metrics is not None:
        print_metrics(metrics, keeping.kept.get("metrics.json"))
    if foreign is not None:
        from coterie.cli.ood import print_ood

        print_ood(foreign, keeping.kept.get("ood.json"))
    for note in notes:
        print(f"Note: {note}")
    if keeping.lost is None:
        speech.suggest((("compare", run, "OTHER-RUN"), "these numbers beside those of other runs"))


def print_metrics(metrics: dict[str, Any], path: Path | None) -> None:
    """A table for a person: a line for each head."""
    print("          " + "  ".join(f"{name:>10}" for name in METRICS))
    for name, head in metrics["heads"].items():
        print(f"{name:<10}" + "  ".join(f"{limit(head[key], 3, (1.0,)):>10}" for key in METRICS))
    if metrics.get("labels"):
        print(f"Labels: {metrics['labels']}.")
    if metrics.get("labels_used"):
        judged = counted(
            metrics["labels_used"], "item whose judgement took part is", "items whose judgement took part are"
        )
        print(f"{judged} left out, {metrics['n']:,} measured.")
    if path is not None:
        print(f"All numbers: {path}")


def evaluate_labels(run: Path, record: dict[str, Any], wanted: str | None, column: str | None = None) -> dict[str, Any]:
    """Measure a run against true labels; nothing is written. Raises InputError where there are no labels."""
    source = record.get("source", {})
    origin, skipped = lies_at(source), source.get("skipped", [])
    ids = read_result(run / "result.parquet", source.get("n"), groups_of(record)).ids
    left_out = [Skipped(item["id"], item["reason"]) for item in skipped]
    labels = find_labels(origin, wanted, column, ids, left_out) if origin or wanted is not None else None
    if labels is None:
        why = "is not there any more" if is_gone(source) else "carries no labels"
        raise InputError(f"{origin or run} {why}: give the labels with --labels FILE or --labels folders.")
    if labels.by_row or wanted is None:
        labels = of_this_run(labels, origin, ids, run, record, surely=labels.by_row)
    return measure_run(run, labels)


def renew_report(run: Path, speech: Speech, *, as_json: bool) -> None:
    """Write `report.html` again."""
    read_record(run)
    reviewed_table(run)  # with what was decided before a review was killed, or is decided now
    page = write_report(run)
    answer: dict[str, Any] = {"run": str(run), "report": str(page)}
    if as_json:
        print_object(answer)
    else:
        print(page)
        speech.suggest(to_review(run))
