"""The R-DC paper's Figures 12 and 15: the geometry of the code and its accuracy through both phases, R-DC and DynAE.

    python experiments/geometry_curves.py --seeds 0 --runs runs/geometry

10,000 images of Fashion-MNIST, drawn by a fixed seed; phase 1 (`acai`) once a seed, then R-DC and DynAE from the same
weights, practical presets, R-DC without its stop rule. After every epoch, on 2,000 of the images: intrinsic and linear
dimension as means over the true classes, and ACC of K-means on the code. The observer reads labels,
the training does not. A run that was interrupted goes on where it stopped. Writes results/geometry_curves.json and
docs/figures/geometry_curves.png.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _runs import (
    FIGURES,
    command_for_drawn,
    ground,
    label_free,
    of_stage,
    overrides_of,
    parser_for_drawn,
    preset_on,
    saved,
    write_study,
)
from _tables import draw
from torch import Tensor

from coterie.algorithms.geometry import geometry_of
from coterie.algorithms.kmeans import kmeans
from coterie.common.outputs import write_atomically
from coterie.data import Labels, open_source
from coterie.evaluation import accuracy
from coterie.networks.features import extract_features
from coterie.networks.net import Net
from coterie.pipeline import run
from coterie.running.prepared import Watch
from coterie.training.history import EpochRecord
from coterie.training.plan import RunSettings
from coterie.types import Items

LOOKED_AT = 2000
STEADY: dict[str, dict[str, Any]] = {"acai": {}, "rdc": {"rdc.stop": "never"}, "dynae": {}}
CURVES = ("intrinsic", "linear", "acc")


@dataclass
class Observer:
    """Appends a line for every epoch to `file`, which is kept beside the run."""

    items: Items
    labels: Labels
    k: int
    file: Path

    def __call__(self, record: EpochRecord, net: Net) -> None:
        rows = torch.linspace(0, len(self.items) - 1, min(len(self.items), LOOKED_AT)).round().long()
        z = extract_features(net, self.items, rows)
        found = self.measure(z, self.labels.codes[rows.numpy()])
        lines = [line for line in read_lines(self.file) if line["epoch"] < record.epoch]  # a resumed epoch is new
        lines.append({"epoch": record.epoch, **found})
        write_atomically(self.file, "".join(json.dumps(line) + "\n" for line in lines))

    def measure(self, z: Tensor, truth: Any) -> dict[str, float]:
        shape = geometry_of(z, truth)
        groups = kmeans(z, self.k, generator=torch.Generator().manual_seed(0), restarts=5).labels.numpy()
        values = (shape.intrinsic, shape.linear, accuracy(truth, groups))
        return {name: round(float(value), 4) for name, value in zip(CURVES, values, strict=True)}


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def curve(
    method: str,
    start: Path | None,
    file: Path,
    labels: Labels,
    seed: int,
    out: Path,
    given: dict[str, Any],
    base: RunSettings,
) -> list[dict[str, Any]]:
    """The lines of one stage's run, which is made or gone on with if it is not done."""
    lines = out.parent / f"{out.name}.jsonl"
    if not ((out / "run.yaml").exists() and label_free(out)["status"] == "done"):
        mine = of_stage(given, method)
        overrides = STEADY[method] | mine
        settings = replace(base, method=method, seed=seed, init=str(start) if start else None, overrides=overrides)
        source = open_source(file)
        observer = Observer(source.items, labels, base.n_clusters, lines)
        run(file, settings, out, resume=(out / "run.yaml").exists(), watch=Watch(after_epoch=[observer]))
    return read_lines(lines)


def figure(records: list[dict[str, Any]]) -> bytes:
    """Dimensions (left) and accuracy (right) over the epochs of both phases, of the first seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    stages = {record["method"]: record["lines"] for record in records if record["seed"] == records[0]["seed"]}
    shown, (left, right) = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for method, colour in (("rdc", "tab:blue"), ("dynae", "tab:orange")):
        lines = [*stages["acai"], *stages[method]]
        left.plot([line["intrinsic"] for line in lines], color=colour, label=f"{method}, ID")
        left.plot([line["linear"] for line in lines], color=colour, linestyle="--", label=f"{method}, LID")
        right.plot([100 * line["acc"] for line in lines], color=colour, label=method)
    for axis, title in ((left, "dimension of the code, mean over classes"), (right, "ACC of K-means on the code, %")):
        axis.axvline(len(stages["acai"]) - 0.5, color="grey", linewidth=0.8)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch (phase 1 left of the line)")
        axis.legend(fontsize=8)
    return saved(shown)


def main(words: list[str] | None = None) -> None:
    options = parser_for_drawn(__doc__, Path("runs/geometry"))
    options.add_argument("--figures", type=Path, default=FIGURES)
    given = options.parse_args(words)
    overrides = overrides_of(given.set, STEADY)
    name, file, labels, _ = draw(given.source, given.items, given.runs)
    records: list[dict[str, Any]] = []
    for seed in given.seeds:
        first = given.runs / f"{name}-acai-{seed}"
        for method in ("acai", "rdc", "dynae"):
            out = given.runs / f"{name}-{method}-{seed}"
            start = None if method == "acai" else first
            base = replace(ground(given), preset=preset_on(given.preset, method, given.source))
            lines = curve(method, start, file, labels, seed, out, overrides, base)
            records.append({"data": name, "method": method, "seed": seed, "lines": lines})
            print(name, method, seed, lines[0], lines[-1], flush=True)
    write_study("geometry_curves", given, command_for_drawn("geometry_curves", given), records, figure(records))


if __name__ == "__main__":
    main()
