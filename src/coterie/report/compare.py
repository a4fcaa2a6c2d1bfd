"""Several finished runs side by side: their numbers, means over seeds, and how far any two of them agree.

The agreement needs no labels: two runs over the same data that put the same items together agree, whatever the numbers
of their groups. Runs that agree need not be right, but where they do not at least one of them is wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from coterie.evaluation import accuracy, ari
from coterie.evaluation.trust import Trust
from coterie.records import Record, judgements_in, read_record
from coterie.report.headline import method
from coterie.report.read import ReadRun, Result, read_finished
from coterie.types import InputError, Skipped

METRICS = ("acc", "nmi", "ari", "ece", "auroc")
LONGEST_CHAIN = 20  # of runs, each of which goes on from the one before
MEANT = (*METRICS, "confidence", "empty", "seconds")  # what is averaged over seeds


@dataclass(frozen=True)
class Row:
    """One run. `metrics` has a None for each number that is not known; without true labels that is all of them."""

    run: str
    data: str
    method: str  # of the last stage
    stages: str  # all of them: "moco → cdc"
    n: int
    k: int
    seed: int | None
    epochs: list[int]  # that each stage made, fewer than planned where its own rule ended it
    seconds: float | None
    metrics: dict[str, float | None]
    confidence: float
    calibrated: bool  # whether that confidence is
    empty: int  # groups without an item
    labels_used: int = 0  # judgements that took part; such a run is set beside no label-free one
    labels: str = ""  # which ones the metrics are by, and what is to be said of them

    def number(self, name: str) -> float | None:
        """One of `MEANT`."""
        value = self.metrics[name] if name in self.metrics else getattr(self, name)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Summary:
    """Runs that differ by nothing but their seeds; `std` is the sample's (n - 1)."""

    data: str
    method: str
    stages: str
    runs: list[str]
    seeds: list[int]
    mean: dict[str, float | None]
    std: dict[str, float | None]
    calibrated: bool = True
    labels_used: int = 0  # in each of them


@dataclass(frozen=True)
class Pair:
    """How far two runs agree; None where they are over different data."""

    first: str
    second: str
    ari: float | None
    accuracy: float | None  # share of the items in agreeing groups, after the best one-to-one matching of groups


@dataclass(frozen=True)
class Comparison:
    """All that the table, the page and --json say. `left_out`: given paths that hold no finished run, and why."""

    rows: list[Row]
    summaries: list[Summary]
    agreement: list[Pair]
    left_out: list[Skipped] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)  # of the rows
    trust: Trust | None = None  # which of them to trust, where they can be ranked
    notes: list[str] = field(default_factory=list)  # what a reader of the numbers must know

    def as_json(self) -> dict[str, Any]:
        """Plain values; `runs` has the names of `fit --json`."""
        return {
            "runs": [asdict(row) for row in self.rows],
            "summaries": [asdict(summary) for summary in self.summaries],
            "agreement": [asdict(pair) for pair in self.agreement],
            "left_out": [asdict(item) for item in self.left_out],
            "trust": None if self.trust is None else self.trust.as_json(),
            "notes": self.notes,
        }


def compare(paths: Sequence[Path]) -> Comparison:
    """Read finished runs and set them side by side; a folder that is given twice counts once.

    A path that holds no finished run is left out, since `runs/*` names everything. Raises InputError for a path that is
    not there, and where nothing is left to compare.
    """
    unique = list({os.path.realpath(path): path for path in paths}.values())
    runs, epochs, kept, left_out = [], [], [], []
    for path in unique:
        if not os.path.lexists(path):
            raise InputError(f"{path} holds no run.yaml, for there is no such folder: give those that fit -o wrote.")
        try:
            folder, result = read_finished(path)
            epochs.append(_epochs(folder))
            runs.append((folder, result))
            kept.append(path)
        except InputError as error:
            left_out.append(Skipped(str(path), str(error)))
    if not runs:
        more = f" ({len(left_out)} such paths.)" if len(left_out) > 1 else ""
        raise InputError(f"No finished run to compare: {left_out[0].reason}{more}")
    names = _names(kept)
    rows = [_row(name, *run, made) for name, run, made in zip(names, runs, epochs, strict=True)]
    recipes = [recipe(folder.run, (folder.path,)) for folder, _ in runs]
    pairs = [_pair(names, runs, a, b) for a, b in combinations(range(len(runs)), 2)]
    return Comparison(rows, _summaries(rows, recipes), pairs, left_out, kept, notes=_about_labels(rows))


def recipe(run: Record, seen: tuple[Path, ...] = ()) -> str:
    """What runs that differ only in their seeds have in common: data, resolved settings, and the recipe of `init`.

    `seen`: the folders followed so far, since a record may lead back to itself.
    """
    source, settings, precision = run.get("source", {}), run.get("settings", {}), run.get("precision")
    stages = [[stage.get("name"), stage.get("epochs"), stage.get("settings")] for stage in run.get("stages", [])]
    init = settings.get("init")
    if isinstance(init, str) and len(seen) < LONGEST_CHAIN:
        known = run.get("beginning") or {}
        # What was typed in another folder is not here; and a project may have moved with all its runs.
        place = next((path for path in (known.get("path"), init) if path and os.path.lexists(path)), init)
        before = Path(os.path.realpath(place))
        init = known.get("sha256") or init
        if before not in [Path(os.path.realpath(path)) for path in seen]:
            with suppress(InputError):  # not there any more, or damaged: its digest or name serves instead
                init = recipe(read_record(before), (*seen, before))
    kept = {
        "data": [source.get(key) for key in ("fingerprint", "spec", "family")],
        "k": settings.get("n_clusters", run.get("n_clusters")),
        "stages": stages,
        "views": run.get("views"),
        "calibration": run.get("calibration"),
        "backbone": (run.get("backbone") or {}).get("name"),
        "weights": [settings.get("pretrained"), settings.get("weights"), init],
        "precision": precision.get("value") if isinstance(precision, dict) else precision,
        "judged": [(run.get("labels_used") or {}).get("sha256"), judgements_in(run)],
    }
    return json.dumps(kept, sort_keys=True, default=str)


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names where those tell them apart, else the paths."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _epochs(folder: ReadRun) -> list[int]:
    """The epochs that each stage made; those planned where no history tells. Raises InputError for a damaged one."""
    made: dict[str, int] = {}
    for line in folder.history:
        made[line["stage"]] = max(made.get(line["stage"], 0), int(line["epoch"]))
    return [made.get(stage["name"], int(stage.get("epochs") or 0)) for stage in folder.run.get("stages", [])]


def _row(name: str, folder: ReadRun, result: Result, epochs: list[int]) -> Row:
    run, metrics = folder.run, folder.metrics or {}
    stages = run.get("stages", [])
    sizes = np.bincount(result.labels, minlength=folder.n_clusters)
    return Row(
        run=name,
        data=run.get("source", {}).get("name", ""),
        method=stages[-1]["name"] if stages else "",
        stages=method(run),
        n=len(result.labels),
        k=folder.n_clusters,
        seed=run.get("seed"),
        epochs=epochs,
        seconds=run.get("seconds"),
        metrics={key: metrics.get(key) for key in METRICS},
        confidence=float(result.confidence.mean()),
        calibrated=folder.calibrated,
        empty=int((sizes == 0).sum()),
        labels_used=judgements_in(run),
        labels=metrics.get("labels") or "",
    )


def _about_labels(rows: Sequence[Row]) -> list[str]:
    """By which labels the runs were measured: numbers by others do not compare, and some say nothing of the truth."""
    measured = [row for row in rows if row.metrics["acc"] is not None]
    runs_by: dict[str, list[str]] = {}
    for row in measured:
        runs_by.setdefault(row.labels, []).append(row.run)
    if len(runs_by) == 1:
        return [f"Labels: {note}." for note in runs_by if note]
    return [f"Labels of {', '.join(runs)}: {note}." for note, runs in runs_by.items() if note]


def _summaries(rows: Sequence[Row], recipes: Sequence[str]) -> list[Summary]:
    """One for each recipe that ran with several seeds; of two runs with the same seed the first counts."""
    found = []
    for shared in dict.fromkeys(recipes):
        by_seed: dict[int, Row] = {}
        for row, own in zip(rows, recipes, strict=True):
            if own == shared and row.seed is not None:
                by_seed.setdefault(row.seed, row)
        if len(by_seed) < 2:
            continue
        members = [by_seed[seed] for seed in sorted(by_seed)]
        mean: dict[str, float | None] = {}
        std: dict[str, float | None] = {}
        for name in MEANT:
            known = [value for row in members if (value := row.number(name)) is not None]
            complete = len(known) == len(members)  # a mean over some of the seeds would be read as one over all
            mean[name] = float(np.mean(known)) if complete else None
            std[name] = float(np.std(known, ddof=1)) if complete else None
        first = members[0]
        names, sure = [row.run for row in members], all(row.calibrated for row in members)
        about = (first.data, first.method, first.stages, names, sorted(by_seed), mean, std)
        found.append(Summary(*about, calibrated=sure, labels_used=first.labels_used))
    return found


def _pair(names: Sequence[str], runs: Sequence[tuple[ReadRun, Result]], a: int, b: int) -> Pair:
    fingerprints = [runs[place][0].run.get("source", {}).get("fingerprint") for place in (a, b)]
    first, second = runs[a][1].labels, runs[b][1].labels
    if fingerprints[0] is None or fingerprints[0] != fingerprints[1] or len(first) != len(second):
        return Pair(names[a], names[b], None, None)
    return Pair(names[a], names[b], ari(first, second), accuracy(first, second))
