"""What experiments that print a table share: rows that are run once for each seed, and their records.

A row is a change of settings. Each row and seed is a run folder and then one JSON record, written whole; a record that
exists is never made again, and one of several processes makes it while the others go on with other rows. So a table can
be begun, killed, and gone on with by any number of processes on one machine. Rows with the same settings share their
record, whichever table they stand in.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _runs import kept_once, label_free, of_stage, preset_on

from coterie.common.outputs import write_atomically
from coterie.data import Labels, labels_of, names, open_source
from coterie.evaluation import evaluate
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.running.prepared import Watch
from coterie.training.history import EpochRecord, read_history
from coterie.training.plan import RunSettings
from coterie.types import InputError, RunFailed

METRICS = ("acc", "nmi", "ari", "ece", "confidence", "auroc", "aurc", "fpr95")

Paper = Mapping[str, tuple[float | None, ...]]
"""Numbers that the paper prints for a row: data set -> one for each of the table's `printed`; None: not given."""


@dataclass(frozen=True)
class Row:
    """One line of a table: settings over the base, the head that is scored (None: the answer), the paper's numbers."""

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    head: str | None = None
    paper: Paper = field(default_factory=dict)
    method: str = "cdc"

    @property
    def key(self) -> str:
        """The name of the row's run: its settings, whatever the table."""
        return "+".join([self.method, *(f"{name}={value}" for name, value in sorted(self.settings.items()))])


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    rows: list[Row]
    columns: tuple[str, ...]  # ours: metrics, or health numbers of the last epoch
    printed: tuple[str, ...] = ()  # what the paper's numbers are
    note: str = ""


@dataclass(frozen=True)
class Study:
    """What all rows share: the images, the stage that they start from, the settings under those of the rows."""

    name: str
    items: str  # a file of images, or the name of a set
    labels: Labels  # for the records only
    family: Any
    ground: RunSettings  # groups, device, backbone, preset
    runs: Path
    overrides: Mapping[str, Any]
    source: str = ""  # the named set that the images are of, for the published rows
    start: str | None = "moco"  # one run of this method, seed 0, gives all rows their backbone; None: from scratch


def draw(source: str, items: int, folder: Path, seed: int = 0) -> tuple[str, Path, Labels, str]:
    """Name, file, labels and family of `items` images of a named set, drawn by the seed alone; 0 draws all of them."""
    opened = open_source(source)
    total = len(opened.items)
    count = items or total
    if count > total:
        raise InputError(f"{source} has only {total} images: --items {items} is too many.")
    rows = np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
    name, found = f"{Path(source).stem}-{count}", labels_of(source, opened.ids)
    if found is None:
        raise InputError(f"{source} carries no labels, without which there is nothing to put into a table.")
    file = folder / f"{name}.npy"
    if not file.exists():
        images = opened.items.take(torch.from_numpy(rows)).movedim(1, -1).squeeze(-1)
        buffer = io.BytesIO()
        np.save(buffer, images.numpy(), allow_pickle=False)
        write_atomically(file, buffer.getvalue())
    return name, file, Labels(found.codes[rows], found.names), opened.family


def trained_on(source: str, items: int, file: Path) -> str:
    """The file of the drawn images, or the named set itself where all of it is wanted.

    With the set come its images' own sizes and STL-10's unlabelled ones.
    """
    return source if not items and source in names() else str(file)


def first_stage(study: Study) -> dict[str, Any] | None:
    """The record of the one run that every row and every seed starts from, where there is such a run."""
    if study.start is None:
        return None
    mine = of_stage(study.overrides, study.start)
    preset = preset_on(study.ground.preset, study.start, study.source)
    settings = replace(study.ground, method=study.start, seed=0, family=study.family, overrides=mine, preset=preset)
    record = _recorded(study, study.start, settings, wait=True)
    assert record is not None
    if record["failed"]:
        raise RunFailed(record["failed"], "Every row starts from this run: choose other settings and another --runs.")
    return record


def row_record(study: Study, row: Row, seed: int, *, wait: bool) -> dict[str, Any] | None:
    """The record of a row and seed; None while another process makes it."""
    changed = {f"{row.method}.{name}": value for name, value in row.settings.items()}
    overrides = of_stage(study.overrides, row.method) | changed
    start = None if study.start is None else str(study.runs / study.start)
    preset = preset_on(study.ground.preset, row.method, study.source)
    mine = {"seed": seed, "family": study.family, "init": start, "overrides": overrides, "preset": preset}
    settings = replace(study.ground, method=row.method, **mine)
    return _recorded(study, f"{row.key}-{seed}", settings, wait=wait)


def _recorded(study: Study, name: str, settings: RunSettings, *, wait: bool) -> dict[str, Any] | None:
    path = study.runs / "records" / f"{name}.json"
    found = kept_once(path, lambda: _make(study, settings, study.runs / name), wait=wait)
    if found is None:
        return None
    if found["overrides"] != dict(settings.overrides) or found["data"] != study.name:
        raise InputError(f"{path} was made with other settings or data: give another folder with --runs.")
    return found


def _make(study: Study, settings: RunSettings, out: Path) -> dict[str, Any]:
    """Train, or go on training, one run; a run that fails by itself is a result, too."""

    def say(record: EpochRecord, net: torch.nn.Module) -> None:
        print(out.name, f"{record.stage} {record.epoch}/{record.epochs}", record.losses, flush=True)

    failed = None
    try:
        if not (out / "run.yaml").exists() or label_free(out)["status"] != "done":
            run(study.items, settings, out, resume=(out / "run.yaml").exists(), watch=Watch(after_epoch=[say]))
    except RunFailed as error:
        failed = error.reason
    told, history = label_free(out), read_history(out / "history.jsonl").records
    heads = {} if failed else scores(out, study.labels)
    return {
        "data": study.name,
        "method": told["stages"][-1]["name"],
        "n": told["source"]["n"],
        "k": study.ground.n_clusters,
        "seed": settings.seed,
        "seconds": told.get("seconds"),
        "skipped": len(told["source"]["skipped"]),
        "metrics": next(iter(heads.values()), None),
        "heads": heads,
        "health": history[-1].health if history else {},
        "failed": failed,
        "overrides": dict(settings.overrides),
        "settings": told["stages"][-1]["settings"],
        "views": told["views"],
        "backbone": told["backbone"]["name"],
        "precision": told["precision"]["value"],
        "machine": told["machine"],
    }


def scores(out: Path, labels: Labels) -> dict[str, dict[str, float | None]]:
    """Every head of a finished run against true labels."""
    heads = read_result(out / "result.parquet").heads
    found = {name: evaluate(labels.codes, p, class_names=labels.names) for name, p in heads.items()}
    return {name: {key: numbers[key] for key in METRICS} for name, numbers in found.items()}


def work(study: Study, tables: list[Table], seeds: list[int]) -> dict[tuple[str, int], dict[str, Any]]:
    """Every record of these tables, by the row's key and the seed; first those that no other process is at."""
    first_stage(study)
    rows = {row.key: row for table in tables for row in table.rows}
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for wait in (False, True):
        for seed in seeds:
            for key, row in rows.items():
                if (key, seed) not in found and (record := row_record(study, row, seed, wait=wait)) is not None:
                    found[key, seed] = record
    return found
