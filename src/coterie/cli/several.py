"""`coterie fit --runs 5`: the same fit with several seeds, matched and set side by side; the medoid is the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coterie.cli.compare import compare_runs
from coterie.cli.fit import FitRequest, find_labels, fit_source
from coterie.cli.output import print_object
from coterie.encoders.store import lend
from coterie.evaluation import evaluate
from coterie.evaluation.ensemble import combine
from coterie.evaluation.recalibration import with_confidence
from coterie.outputs import write_atomically
from coterie.prediction.results import ResultTable, read_result, write_result
from coterie.records import groups_of, read_record
from coterie.report.page import is_page
from coterie.trusting import trust_runs
from coterie.types import Assignments, InputError, Skipped

TABLE, RECORD, PAGE = "ensemble.parquet", "ensemble.json", "compare.html"
MOST = 100


def fit_several(request: FitRequest, count: int) -> None:
    """Fit with `count` seeds from the one given, into folders seed-0, seed-1, ... of -o. Raises InputError."""
    out = request.out
    if not 2 <= count <= MOST:
        raise InputError(f"--runs is {count}: give 2 to {MOST}.")
    if out is None:
        raise InputError("--runs needs a folder for the runs: give it with -o.")
    if request.dry_run:
        raise InputError("--runs goes with no --dry-run: leave one out; every run has the same plan.")
    first = int(request.settings.get("seed", 0))
    runs = [out / f"seed-{seed}" for seed in range(first, first + count)]
    _check(out, runs, resume=request.resume)
    settings = dict(request.settings)
    for seed, run in zip(range(first, first + count), runs, strict=True):
        done = (run / "run.yaml").exists()
        if done and read_record(run).get("status") == "done":
            continue
        lend(runs[0], run)
        own = replace(request, settings={**settings, "seed": seed}, out=run, resume=done, as_json=False)
        fit_source(own)
        # One number of groups for all: -k auto looks once.
        settings["n_clusters"] = groups_of(read_record(run)) or settings.get("n_clusters")
    finish(request, out, runs)


def _check(out: Path, runs: Sequence[Path], *, resume: bool) -> None:
    """Raise InputError for a folder that holds anything else, or these runs already."""
    there = [entry.name for entry in out.iterdir()] if out.is_dir() else []
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give another folder with -o.")
    strange = set(there) - {run.name for run in runs} - {TABLE, RECORD, PAGE}
    if strange:
        raise InputError(f"{out} holds other files ({min(strange)}): give a new folder with -o.")
    if there and not resume:
        raise InputError(f"{out} already holds runs: go on with --resume, or choose another folder with -o.")


def finish(request: FitRequest, out: Path, runs: Sequence[Path]) -> None:
    """The table, the record and the page of finished runs, and the answer on the screen."""
    tables = [read_result(run / "result.parquet") for run in runs]
    said, found = ensemble_of(tables)
    write_result(out / TABLE, said)
    answer: dict[str, Any] = {"runs": [run.name for run in runs], "medoid": runs[found].name, "table": TABLE}
    ranked = trust_runs(runs, [run.name for run in runs])
    answer["trust"] = None if ranked is None else ranked.as_json()
    answer["recommended"] = runs[found].name if ranked is None else ranked.recommended
    answer["confidence"] = {name: float(p.max(1).values.mean()) for name, p in said.heads.items()}
    record = read_record(runs[0])
    skipped = [Skipped(item["id"], item["reason"]) for item in record.get("source", {}).get("skipped", [])]
    labels = find_labels(request.named, request.labels, request.label_column, list(said.ids), skipped)
    if labels is not None:
        heads = {name: evaluate(labels.codes, p.numpy(), class_names=labels.names) for name, p in said.heads.items()}
        wanted = ("acc", "nmi", "ari", "ece", "confidence")
        answer["metrics"] = {name: {key: found[key] for key in wanted} for name, found in heads.items()}
    write_atomically(out / RECORD, json.dumps(answer, indent=1) + "\n")
    if request.as_json:
        print_object({"run": str(out), **answer})
        return
    page = out / PAGE
    compare_runs(runs, page if not page.exists() or is_page(page) else None, as_json=False)
    print(f"\nThe answer: {out / answer['recommended']}; {out / TABLE} has the medoid's groups, each with the mean")
    print("probability that all runs give it (ensemble), and the mean of all probabilities (mean).")


def ensemble_of(tables: Sequence[ResultTable]) -> tuple[Assignments, int]:
    """The medoid's groups with the mean probability of all runs as confidence, and the medoid's place.

    Heads: `ensemble` is that; `mean` the mean probabilities, whose groups may differ; `single` the medoid's own.
    Raises InputError for runs over different items or with different numbers of groups.
    """
    first = tables[0]
    for table in tables[1:]:
        if table.ids != first.ids or table.k != first.k:
            raise InputError("The runs are over different items or numbers of groups: fit them again in a new folder.")
    heads = [next(iter(table.heads.values())) for table in tables]
    found = combine(heads)
    single = heads[found.medoid]
    share = found.probabilities[np.arange(len(single)), single.argmax(1)]
    named = {
        "ensemble": torch.from_numpy(with_confidence(single, share)),
        "mean": torch.from_numpy(found.probabilities.astype(np.float32)),
        "single": torch.tensor(single),
    }
    return Assignments(first.ids, named["ensemble"], named), found.medoid
