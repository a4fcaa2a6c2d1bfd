"""What `fit` says of a finished run, and of one that it would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from coterie.cli.output import METRICS, print_object, print_skipped, run_summary
from coterie.common.words import counted, limit
from coterie.pipeline import RunResult
from coterie.report.wording import short_percent
from coterie.running.forecast import forecast
from coterie.running.prepared import Prepared


def summarise(out: Path, done: RunResult, metrics: dict[str, Any] | None) -> dict[str, Any]:
    """The object of --json."""
    record = done.record
    summary = {
        **run_summary(out, record),
        "calibrated": record["calibrated"],
        "skipped_items": record["source"]["skipped"],
    }
    if metrics is not None:
        summary["metrics"] = {name: metrics[name] for name in METRICS}
        summary["labels"] = metrics.get("labels", "")
        summary["heads"] = {name: {key: head[key] for key in METRICS} for name, head in metrics["heads"].items()}
    summary["sizes"] = done.assignments.probabilities.argmax(1).bincount(minlength=record["n_clusters"]).tolist()
    summary["warnings"] = record["warnings"]
    summary["notes"] = [*record["notes"], *done.source.notes]
    return summary


def print_summary(summary: dict[str, Any], done: RunResult, page: Path, seconds: float) -> None:
    """A few lines for a person."""
    confidence = done.assignments.probabilities.max(1).values.double()
    print(
        f"{summary['n']:,} items in {counted(summary['k'], 'group')}, {seconds:.0f} s. "
        f"Mean confidence {limit(float(confidence.mean()), 2)}{'' if summary['calibrated'] else ' (not calibrated)'}; ",
        end="",
    )
    print(f"{short_percent(float((confidence > 0.9).double().mean()))} of the items above 0.9.")
    for name, head in summary.get("heads", {}).items():
        print(f"  {name:<8}" + "  ".join(f"{key.upper()} {limit(head[key], 3, (1.0,))}" for key in METRICS))
    if summary.get("labels"):
        print(f"Labels: {summary['labels']}.")
    print_skipped(summary["skipped_items"], f"; {summary['run']}/run.yaml lists them all")
    for text in (*done.source.notes, *summary["warnings"]):
        print(f"Note: {text}")
    print(f"Report: {page}\nTable:  {Path(summary['run']) / 'result.parquet'}")


def show_plan(prepared: Prepared, *, as_json: bool) -> None:
    """What a run would do, and first how long it would take."""
    plan, expected = prepared.record(""), forecast(prepared)
    if as_json:
        for stage, timed in zip(plan["stages"], expected.stages if expected else (), strict=False):
            stage["estimate_seconds"] = round(timed.seconds, 1)
        first = {"estimate_seconds": None if expected is None else round(expected.seconds, 1)}
        first |= {"data": plan["source"]["name"], "n": plan["source"]["n"], "k": plan["n_clusters"]}
        print_object({**first, **plan})
        return
    plan["views"] = views_that_matter(plan["views"], plan["source"]["family"])
    kept = ["source", "n_clusters", "seed", "stages", "calibration", "views", "backbone", "device", "precision"]
    kept = [name for name in kept if plan[name] is not None]
    if expected is not None:
        plan, kept = {"estimate": str(expected), **plan}, ["estimate", *kept]
    print(
        yaml.safe_dump({name: plan[name] for name in [*kept, "notes", "warnings"]}, sort_keys=False, width=120), end=""
    )


def views_that_matter(views: dict[str, Any], family: str) -> dict[str, Any]:
    """The settings of views without those of other kinds of data, which no run on these reads."""
    others = {"photo": ("vector_", "glyph_"), "glyph": ("vector_", "crop_", "flip", "enlarge", "perturbed_")}
    if family == "vector":
        return {name: value for name, value in views.items() if name.startswith(("vector_", "row_norm"))}
    return {name: value for name, value in views.items() if not name.startswith(others[family])}
