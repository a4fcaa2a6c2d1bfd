"""Commands on a finished run: predict, evaluate, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from coterie.cli.fit import LISTED, METRICS, find_labels
from coterie.cli.ood import compare_with_fitted, measure_ood, print_ood, wanted_scores
from coterie.cli.output import print_object
from coterie.cli.progress import StageBar
from coterie.cli.recalibrate import remap_by
from coterie.encoders import open_items
from coterie.outputs import check_folder, check_output, remove_parts
from coterie.pipeline import evaluate_run
from coterie.prediction.model import load_model
from coterie.prediction.results import is_ours, read_result, write_result
from coterie.records import groups_of, read_record
from coterie.report import write_report
from coterie.training.device import accelerator_for
from coterie.types import InputError, Skipped


def predict_source(
    run: Path,
    source: str,
    out: Path,
    device: str,
    *,
    embedding: bool,
    ood_score: str | None,
    recalibrated: bool = False,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the result table of new items."""
    table = check_table(out, run, source)
    check_finished(run)
    remove_parts(table.parent, table.name)
    begun = time.monotonic()
    model = load_model(run, accelerator_for(device).device)
    with StageBar(Console(stderr=True, quiet=quiet), quiet=quiet) as bar:
        opened = open_items(source, like=model.spec, device=device, progress=bar.reading)
        bar.items = len(opened.items)
        scores = wanted_scores(model, ood_score)
        assignments = model.predict(opened, embedding=embedding, ood_scores=scores, progress=bar.predicted)
    labels_used = 0
    if recalibrated:
        assignments, labels_used = remap_by(run, assignments)
    write_result(table, assignments, labels_used=labels_used)
    foreign = compare_with_fitted(model, assignments)
    seconds = round(time.monotonic() - begun, 1)
    if as_json:
        skipped = [{"id": item.id, "reason": item.reason} for item in opened.skipped]
        print_object(
            {
                "run": str(run),
                "data": opened.name,
                "n": len(opened.items),
                "k": model.k,
                "seconds": seconds,
                "calibrated": model.calibrated,
                "labels_used": labels_used,
                "skipped": len(skipped),
                "skipped_items": skipped,
                "table": str(out),
                "ood_score": foreign,
            }
        )
        return
    confidence = assignments.probabilities.max(1).values
    print(
        f"{len(opened.items):,} items assigned in {seconds} s, mean confidence "
        f"{confidence.mean():.2f}{'' if model.calibrated or recalibrated else ' (not calibrated)'}. Table: {out}"
    )
    if recalibrated:
        print(f"Labels were used: the confidences are by the map of {labels_used} judged items.")
    if foreign is not None:
        print(
            f"{foreign['below']:,} of them have an ood_score ({foreign['score']}) below {foreign['threshold']:.3f}, "
            "where only 5 % of the run's own items lie: look at those before you believe their group."
        )
    elif ood_score is None:
        print("Note: the run keeps no sample of its items, so there is no ood_score: fit it again to have one.")
    if opened.skipped:
        print(f"{len(opened.skipped)} unreadable images were left out:")
    for item in opened.skipped[:LISTED]:
        print(f"  {item.id}: {item.reason}")
    for note in opened.notes:
        print(f"Note: {note}")


def check_table(out: Path, run: Path, source: str) -> Path:
    """Where the result table goes. Raises InputError for one that could not or may not be written in the end."""
    if out.suffix != ".parquet":
        raise InputError(f"-o {out} must end in .parquet.")
    return check_output(out, [source, run], ours=is_ours)


def check_finished(run: Path) -> None:
    """Raise InputError for a run folder that has no model yet, and say how far it came, or whose record is damaged."""
    # A model that was saved without a run has none.
    status = read_record(run).get("status") if os.path.lexists(run / "run.yaml") else None
    if status is not None and not (run / "model").is_dir():
        raise InputError(f"The run in {run} has no model, its status is {status!r}: finish it with fit --resume.")


def evaluate_finished(
    run: Path,
    labels: str | None,
    label_column: str | None,
    ood: str | None,
    ood_score: str | None,
    device: str,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure a run against true labels, against the items of a second source, or both."""
    if ood is None and ood_score is not None:
        raise InputError("--ood-score needs a second source to compare with: give it with --ood.")
    record = read_record(run)
    check_finished(run)
    if labels is not None and labels != "folders":
        check_folder(run, [labels], writes=("metrics.json", "ood.json", "report.html"))
    asked = labels is not None or label_column is not None or ood is None
    metrics = evaluate_labels(run, record, labels, label_column) if asked else None
    foreign = None
    if ood is not None:
        with StageBar(Console(stderr=True, quiet=quiet), quiet=quiet) as bar:

            def watch(items: int) -> Callable[[int], None]:
                bar.items = items
                return bar.predicted

            foreign = measure_ood(run, ood, ood_score, device, watch)
    if as_json:
        source = record.get("source", {})
        answer = {
            "run": str(run),
            "data": source.get("name"),
            "method": (record.get("stages") or [{}])[-1].get("name"),
            "n": source.get("n"),
            "k": record.get("n_clusters"),
            "seed": record.get("seed"),
            "seconds": record.get("seconds"),
            "skipped": len(source.get("skipped", [])),
        }
        answer |= {"metrics": metrics} if metrics is not None else {}
        print_object(answer | ({"ood": foreign} if foreign is not None else {}))
        return
    if metrics is not None:
        print("          " + "  ".join(f"{name:>10}" for name in METRICS))
        for name, head in metrics["heads"].items():
            print(f"{name:<10}" + "  ".join(f"{head[key]:>10.3f}" for key in METRICS))
        if metrics.get("labels"):
            print(f"Labels: {metrics['labels']}.")
        if metrics.get("labels_used"):
            print(
                f"{metrics['labels_used']:,} items whose judgement took part are left out, {metrics['n']:,} measured."
            )
        print(f"All numbers: {run / 'metrics.json'}")
    if foreign is not None:
        print_ood(foreign, run / "ood.json")


def evaluate_labels(run: Path, record: dict[str, Any], wanted: str | None, column: str | None = None) -> dict[str, Any]:
    """Measure a run against true labels, keep the numbers, renew the report."""
    source = record.get("source", {})
    origin, skipped = source.get("origin", ""), source.get("skipped", [])
    ids = read_result(run / "result.parquet", source.get("n"), groups_of(record)).ids
    left_out = [Skipped(item["id"], item["reason"]) for item in skipped]
    labels = find_labels(origin, wanted, column, ids, left_out) if origin or wanted is not None else None
    if labels is None:
        raise InputError(f"{origin or run} carries no labels: give them with --labels FILE or --labels folders.")
    metrics = evaluate_run(run, labels)
    write_report(run)
    return metrics


def renew_report(run: Path, *, as_json: bool) -> None:
    """Write `report.html` again."""
    read_record(run)
    page = write_report(run)
    answer: dict[str, Any] = {"run": str(run), "report": str(page)}
    if as_json:
        print_object(answer)
    else:
        print(page)
