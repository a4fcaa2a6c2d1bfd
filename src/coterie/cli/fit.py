"""`coterie fit` and `coterie demo`: settings from options and files, a run, its metrics and its report."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from coterie.cli import print_object
from coterie.cli.progress import StageBar
from coterie.data import Labels, labels_from_folders, labels_of, read_label_file
from coterie.pipeline import Prepared, RunResult, Watch, evaluate_run, prepare, run
from coterie.report import write_report
from coterie.training.plan import RunSettings, coerce
from coterie.types import InputError

METRICS = ("acc", "nmi", "ari", "ece", "confidence")


@dataclass
class FitRequest:
    """What the user asked `fit` for; `settings` are those of RunSettings by name."""

    source: str
    settings: dict[str, Any]
    out: Path | None
    resume: bool = False
    dry_run: bool = False
    as_json: bool = False
    labels: str | None = None


def fit_source(request: FitRequest) -> None:
    """Run a request and print its summary. Raises InputError and RunFailed."""
    if "n_clusters" not in request.settings:
        raise InputError("How many groups? Give their number with -k, for example -k 10.")
    settings = coerce(RunSettings, request.settings, "run")
    first = os.environ.get("RANK", "0") == "0"  # of the processes that `accelerate launch` started
    quiet = not first or (request.as_json and not sys.stderr.isatty())
    console = Console(stderr=True, quiet=quiet)
    if request.dry_run:
        prepared = prepare(request.source, settings, None, resume=False, watch=Watch())
        show_plan(prepared, as_json=request.as_json)
        return
    if request.resume and request.out is None:
        raise InputError("--resume needs the run folder to go on with: give it with -o.")
    out = request.out or free_folder(Path("runs"), f"{Path(request.source).stem}-{settings.method}")
    begun = time.monotonic()
    with StageBar(console, quiet=quiet) as bar:
        watch = Watch(progress=bar, say=lambda text: console.print(f"[dim]{text}[/dim]"))
        command = shlex.join(["coterie", *sys.argv[1:]])
        done = run(request.source, settings, out, resume=request.resume, command=command, watch=watch)
    if not first:
        return
    labels = find_labels(request.source, request.labels, done.assignments.ids)
    metrics = evaluate_run(out, labels) if labels is not None else None
    page = write_report(out)
    summary = summarise(out, done, metrics)
    if request.as_json:
        print_object(summary)
    else:
        print_summary(summary, done, page, time.monotonic() - begun)


def find_labels(source: str, wanted: str | None, ids: Any) -> Labels | None:
    """True labels for evaluation, read only now that training is over."""
    if wanted == "folders":
        return labels_from_folders(ids)
    if wanted is not None:
        return read_label_file(Path(wanted), ids)
    return labels_of(source, ids)


def summarise(out: Path, done: RunResult, metrics: dict[str, Any] | None) -> dict[str, Any]:
    """The object of --json."""
    record = done.record
    summary = {
        "run": str(out),
        "data": done.source.name,
        "method": record["stages"][-1]["name"],
        "n": record["source"]["n"],
        "k": record["n_clusters"],
        "seed": record["seed"],
        "seconds": record["seconds"],
        "skipped": len(record["source"]["skipped"]),
    }
    if metrics is not None:
        summary["metrics"] = {name: metrics[name] for name in METRICS}
        summary["heads"] = {name: {key: head[key] for key in METRICS} for name, head in metrics["heads"].items()}
    summary["sizes"] = done.assignments.probabilities.argmax(1).bincount(minlength=record["n_clusters"]).tolist()
    summary["warnings"] = record["warnings"]
    return summary


def print_summary(summary: dict[str, Any], done: RunResult, page: Path, seconds: float) -> None:
    """A few lines for a person."""
    confidence = done.assignments.probabilities.max(1).values
    print(
        f"{summary['n']:,} items in {summary['k']} groups, {seconds:.0f} s. Mean confidence {confidence.mean():.2f}; ",
        end="",
    )
    print(f"{(confidence > 0.9).float().mean():.0%} of the items above 0.9.")
    for name, head in summary.get("heads", {}).items():
        print(f"  {name:<8}" + "  ".join(f"{key.upper()} {head[key]:.3f}" for key in METRICS))
    if summary["skipped"]:
        print(f"{summary['skipped']} unreadable images were left out; {summary['run']}/run.yaml lists them.")
    for text in (*done.source.notes, *summary["warnings"]):
        print(f"Note: {text}")
    print(f"Report: {page}\nTable:  {Path(summary['run']) / 'result.parquet'}")


def show_plan(prepared: Prepared, *, as_json: bool) -> None:
    """What a run would do."""
    plan = prepared.record("")
    if as_json:
        print_object({"data": plan["source"]["name"], "n": plan["source"]["n"], "k": plan["n_clusters"], **plan})
        return
    kept = ("source", "n_clusters", "seed", "stages", "views", "backbone", "device", "precision", "notes")
    print(yaml.safe_dump({name: plan[name] for name in kept}, sort_keys=False, width=120), end="")


def free_folder(parent: Path, name: str) -> Path:
    """`parent/name`, or the first of name-2, name-3, ... that is not there."""
    folder, number = parent / name, 2
    while folder.exists():
        folder, number = parent / f"{name}-{number}", number + 1
    return folder


def read_overrides(assignments: list[str]) -> dict[str, Any]:
    """`method.cells=40` -> {"method.cells": 40}, values read as YAML. Raises InputError for anything else."""
    overrides = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {text!r} is no setting: write it as method.cells=40.")
        try:
            overrides[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {text!r} has a value that cannot be read: {value!r}.") from error
    return overrides


def read_config(path: Path) -> dict[str, Any]:
    """Settings of a YAML file: those of a run by name, and a mapping for each stage. Raises InputError."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise InputError(f"The configuration {path} is no YAML: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The configuration {path} must be a mapping of settings, such as 'n_clusters: 10'.")
    settings: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict) and name != "overrides":
            overrides |= {f"{name}.{setting}": inner for setting, inner in value.items()}
        else:
            settings[name] = value
    settings["overrides"] = {**(settings.get("overrides") or {}), **overrides}
    return settings
