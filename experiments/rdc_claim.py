"""How much of R-DC's published gain is the method, and how much the choice of the weights by true labels.

    OMP_NUM_THREADS=1 python experiments/rdc_claim.py fashion-mnist -k 10 --seeds 0 1 2 --refreshes 30 --runs runs/claim

One phase 1 (`acai`, --preset's) a seed, then every row from it: `text`, the paper's words; `code`, the authors' code as
it runs; the code with one difference at a time put back. After every 140 iterations K-means groups the code of all
items, and three readings of a row are given: its last evaluation, the one that a rule without labels chooses (fixed
beforehand: the highest share of an item's ten nearest in pixels that are in its group), and the best by true labels,
which is what the authors' code keeps. `by chance` is what a maximum of as many evaluations gains over their mean where
they only fluctuate: a first-order process with the deviation and the correlation of the row's second half. As many of
phase 1's last epochs are read in the same way, as a row that learns nothing of phase 2.

Every row is a run folder below --runs, and the same command goes on where it was stopped. `--done` trains nothing and
writes what is there: rows that are done, and of others the evaluations so far. Labels are read by this script and never
reach a run. Writes results/rdc_claim_<data>.json and .md after every row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _pages import in_words, markdown, mean_and_deviation
from _runs import command_line, ground, label_free, of_stage, overrides_of, parser, write_records
from numpy.typing import NDArray
from torch import Tensor

from coterie.algorithms.kmeans import kmeans
from coterie.algorithms.neighbours import nearest
from coterie.common.outputs import write_atomically
from coterie.data import labels_of, open_source
from coterie.evaluation import accuracy
from coterie.networks.features import extract_features
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.running.prepared import Watch
from coterie.training.history import EpochRecord
from coterie.training.plan import RunSettings

STEPS, SAMPLE, NEAR, RESTARTS = 140, 10_000, 10, 20
THRESHOLDS = {"rdc.core_ratio": 0.6, "rdc.gap": 0.6, "rdc.gap_scale": "absolute"}  # Fashion-MNIST's, of both
PACE = {"rdc.epoch_steps": STEPS, "rdc.stop": "never", "rdc.widest": None}
TEXT = {**THRESHOLDS, **PACE, "rdc.augment": True}
CODE = {
    **TEXT,
    "rdc.neighbours": 4,
    "rdc.gap_from": "running",
    "rdc.when_none": "own_code",
    "rdc.include_border": True,
    "rdc.border_code": "refresh",
    "rdc.border_image": "decoded",
    "rdc.image_weight": 100.0,
    "rdc.order": "source",
}
ROWS: dict[str, dict[str, Any]] = {
    "code": CODE,
    "text": {**TEXT, "rdc.refresh": "bank"},
    "text, centroids for 140 iterations": TEXT,
    "code, text's second filter": {**CODE, "rdc.gap_from": "own", "rdc.when_none": "nearest"},
    "code, border items aim at their image": {**CODE, "rdc.border_image": "clean"},
    "code, border items free in the code": {**CODE, "rdc.include_border": False},
    "code, no augmentation": {**CODE, "rdc.augment": False},
    "code, SGD 1e-3": {**CODE, "rdc.solver": "sgd", "rdc.learning_rate": 1e-3},
    "code, five real neighbours": {**CODE, "rdc.neighbours": 5},
    "code, κ = 30": {**CODE, "rdc.image_weight": 30.0},
    "code, shuffled": {**CODE, "rdc.order": "shuffled"},
    "code, no core items (augmentation alone)": {**CODE, "rdc.core_ratio": 1.0},
}
READINGS = {"last": "last", "label_free": "chosen without labels", "best": "best by labels", "chance": "by chance"}


@dataclass(frozen=True)
class Judge:
    """Groups the code after an epoch and keeps the numbers in `path`, by epoch; it tells the run nothing."""

    path: Path
    items: Any
    labels: NDArray[np.integer[Any]]
    near: Tensor  # (sample, 10) rows of the items nearest in pixels
    rows: Tensor  # (sample,)
    k: int
    last: int  # evaluations that are read, of the last epochs

    def __call__(self, record: EpochRecord, net: Net) -> None:
        if record.epoch <= record.epochs - self.last:
            return
        code = extract_features(net, self.items)
        draws, at = torch.Generator().manual_seed(record.epoch), net.mean.device
        group = kmeans(code.to(at), self.k, generator=draws, restarts=RESTARTS).labels.cpu()
        agree = (group[self.near] == group[self.rows][:, None]).float().mean()
        line = {
            "acc": accuracy(self.labels, group.numpy(), self.k),
            "agreement": float(agree),
            "width": float(code.std(0).mean()),
            **{name: record.health[name] for name in ("core_share", "accepted") if name in record.health},
        }
        found = {**self.found(), str(record.epoch): line}
        write_atomically(self.path, json.dumps(found, indent=1) + "\n")
        print(self.path.stem, record.epoch, line, flush=True)

    def found(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found


def readings(lines: list[dict[str, float]]) -> dict[str, float]:
    """The three readings of a row's evaluations, in order, and what its maximum would gain by chance."""
    acc = np.array([line["acc"] for line in lines])
    tail = acc[len(acc) // 2 :]
    return {
        "last": float(acc[-1]),
        "label_free": float(acc[int(np.argmax([line["agreement"] for line in lines]))]),
        "best": float(acc.max()),
        "mean": float(acc.mean()),
        "chance": record_by_chance(len(acc), *fluctuation(tail)),
    }


def fluctuation(acc: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Deviation and lag-1 correlation of evaluations; a correlation that cannot be measured is 0."""
    apart = acc - acc.mean()
    if len(acc) < 3 or not apart.any():
        return float(acc.std()), 0.0
    return float(acc.std(ddof=1)), float(np.clip((apart[1:] * apart[:-1]).sum() / (apart**2).sum(), 0.0, 0.99))


def record_by_chance(n: int, deviation: float, correlation: float, draws: int = 2000) -> float:
    """The expected maximum of n values of a stationary first-order process above its mean."""
    noise = np.random.default_rng(0).standard_normal((n, draws))
    values = noise.copy()
    for i in range(1, n):
        values[i] = correlation * values[i - 1] + (1 - correlation**2) ** 0.5 * noise[i]
    return float(deviation * values.max(axis=0).mean())


def made(settings: RunSettings, source: str, out: Path, look: Callable[[EpochRecord, Net], None]) -> dict[str, Any]:
    """The record of a run, trained or gone on with where it is not done."""
    begun = (out / "run.yaml").exists()
    if not begun or label_free(out)["status"] != "done":
        run(source, settings, out, resume=begun, watch=Watch(after_epoch=[look]))
    return label_free(out)


def page(records: list[dict[str, Any]], command: str) -> str:
    titles = list(dict.fromkeys(record["title"] for record in records))
    rows = []
    for title in titles:
        mine = [record for record in records if record["title"] == title]
        cells = [mean_and_deviation([record["readings"][name] for record in mine]) for name in READINGS]
        widths = " / ".join(f"{record['lines'][-1]['width']:.2f}" for record in mine)
        evaluations = " / ".join(f"{len(record['lines'])}" + "*" * (not record["done"]) for record in mine)
        rows.append([title, *cells, widths, evaluations, ", ".join(str(record["seed"]) for record in mine)])
    first = records[0]
    about = (
        f"{first['data']}: {first['n']} images, {first['k']} groups; {in_words(first['machine'])}. ACC in percent, "
        f"mean ± standard deviation over seeds; an evaluation every {STEPS} iterations, for phase 1 after each of its "
        "last epochs. *: not done, the evaluations so far."
    )
    head = ["", *READINGS.values(), "width of the code at the end", "evaluations", "seeds"]
    return f"# R-DC: the method, and the choice by labels\n\n{about}\n\n{markdown(head, rows)}\n\n`{command}`\n"


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--refreshes", type=int, default=30, help="evaluations of each row, 140 iterations apart")
    options.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    options.add_argument("--done", action="store_true", help="train nothing: only read what is there")
    given = options.parse_args(words)
    data = given.name or given.source
    source = open_source(given.source)
    found = labels_of(given.source, source.ids)
    assert found is not None, f"{given.source} carries no labels"
    rows = torch.randperm(len(source.items), generator=torch.Generator().manual_seed(0))[:SAMPLE]
    pixels = source.items.take(torch.arange(len(source.items))).flatten(1).float()
    # Nothing is judged where nothing is trained.
    _, near = (rows, rows[:, None]) if given.done else nearest(pixels, NEAR + 1, queries=pixels[rows])
    base = replace(ground(given), overrides=overrides_of(given.set, ("acai", "rdc")), calibrate=False)
    command = command_line("rdc_claim", given, given.seeds) + f" --refreshes {given.refreshes}"
    if given.rows != list(ROWS):
        command += " --rows " + " ".join(f'"{row}"' if " " in row else row for row in given.rows)
    records: list[dict[str, Any]] = []

    def keep(title: str, settings: RunSettings, out: Path) -> None:
        own = (source.items, found.codes, near[:, 1:], rows, given.k)
        judge = Judge(out.with_suffix(".acc.json"), *own, given.refreshes)
        if given.done and not ((out / "run.yaml").exists() and judge.found()):
            return
        record = label_free(out) if given.done else made(settings, given.source, out, judge)
        lines = list(judge.found().values())[-given.refreshes :]
        records.append(
            {
                "data": data,
                "title": title,
                "n": record["source"]["n"],
                "k": given.k,
                "seed": settings.seed,
                "done": record["status"] == "done",
                "seconds": record.get("seconds"),
                "settings": record["stages"][-1]["settings"],
                "machine": record["machine"],
                "readings": readings(lines),
                "lines": lines,
            }
        )
        order = ["phase 1", *ROWS]
        records.sort(key=lambda one: (order.index(one["title"]), one["seed"]))
        write_records(f"rdc_claim_{data}", command, records, given.results)
        write_atomically(given.results / f"rdc_claim_{data}.md", page(records, command))

    given.runs.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        start = given.runs / f"{data}-acai-{seed}"
        keep("phase 1", replace(base, method="acai", seed=seed, overrides=of_stage(base.overrides, "acai")), start)
        for title in given.rows:
            mine = of_stage(base.overrides, "rdc") | ROWS[title] | {"rdc.epochs": given.refreshes}
            settings = replace(base, method="rdc", seed=seed, init=str(start), overrides=mine)
            keep(title, settings, given.runs / f"{data}-rdc-{list(ROWS).index(title)}-{seed}")


if __name__ == "__main__":
    main()
