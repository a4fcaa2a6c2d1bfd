"""Commands on a finished run: predict, evaluate, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from coterie.cli import print_object
from coterie.cli.fit import METRICS, find_labels
from coterie.data import open_source
from coterie.pipeline import evaluate_run
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result, write_result
from coterie.report import write_report
from coterie.training.device import accelerator_for
from coterie.training.runfolder import read_run
from coterie.types import InputError


def predict_source(run: Path, source: str, out: Path, device: str, *, embedding: bool, as_json: bool) -> None:
    """Write the result table of new items."""
    if out.suffix != ".parquet":
        raise InputError(f"-o {out} must end in .parquet.")
    begun = time.monotonic()
    model = load_model(run, accelerator_for(device).device)
    opened = open_source(source, like=model.spec)
    assignments = model.predict(opened, embedding=embedding)
    write_result(out, assignments)
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
                "skipped": len(skipped),
                "skipped_items": skipped,
                "table": str(out),
            }
        )
        return
    confidence = assignments.probabilities.max(1).values
    print(f"{len(opened.items):,} items assigned in {seconds} s, mean confidence {confidence.mean():.2f}. Table: {out}")
    for item in opened.skipped:
        print(f"  left out {item.id}: {item.reason}")


def evaluate_labels(run: Path, wanted: str | None, *, as_json: bool) -> None:
    """Measure a run against true labels, keep the numbers, renew the report."""
    record = read_run(run)
    ids = read_result(run / "result.parquet").ids
    labels = find_labels(record["source"]["origin"], wanted, ids)
    if labels is None:
        raise InputError(
            f"{record['source']['origin']} carries no labels: give them with --labels FILE or --labels folders."
        )
    metrics = evaluate_run(run, labels)
    write_report(run)
    if as_json:
        print_object(
            {
                "run": str(run),
                "data": record["source"]["name"],
                "method": record["stages"][-1]["name"],
                "n": record["source"]["n"],
                "k": record["n_clusters"],
                "seed": record["seed"],
                "seconds": record.get("seconds"),
                "skipped": len(record["source"]["skipped"]),
                "metrics": metrics,
            }
        )
        return
    print("          " + "  ".join(f"{name:>10}" for name in METRICS))
    for name, head in metrics["heads"].items():
        print(f"{name:<10}" + "  ".join(f"{head[key]:>10.3f}" for key in METRICS))
    print(f"All numbers: {run / 'metrics.json'}")


def renew_report(run: Path, *, as_json: bool) -> None:
    """Write `report.html` again."""
    read_run(run)
    page = write_report(run)
    answer: dict[str, Any] = {"run": str(run), "report": str(page)}
    if as_json:
        print_object(answer)
    else:
        print(page)
