"""Figures 12, 13 and 18 of the R-DC paper from the claim's records and runs: ACC by iteration, and codes in the plane.

    python experiments/rdc_figures.py fashion-mnist                        # the curves, from the committed records
    python experiments/rdc_figures.py fashion-mnist --runs runs/claim      # and the codes of seed 0 by PCA

Trains nothing. Writes docs/figures/rdc_claim_<data>.png and, with --runs, docs/figures/rdc_codes_<data>.png: 5,000
codes, drawn by a fixed seed, along the two first principal directions of each row, coloured by true class.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from _runs import FIGURES, RESULTS, saved
from rdc_claim import STEPS
from rdc_geometry import titles

from coterie.common.outputs import write_atomically
from coterie.data import labels_of, open_source
from coterie.networks.features import extract_features
from coterie.prediction.model import load_model

SHOWN = 5000


def plots(columns: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown, axes = pyplot.subplots(1, columns, figsize=(4.6 * columns, 3.8), layout="constrained", squeeze=False)
    return shown, axes[0]


def curves(records: list[dict[str, Any]]) -> bytes:
    """ACC of K-means on the code by iteration of phase 2, one line a row and seed; dashed: phase 1's last."""
    shown, (axis,) = plots(1)
    rows = list(dict.fromkeys(one["title"] for one in records if one["title"] != "phase 1"))
    colours = {title: f"C{i}" for i, title in enumerate(rows)}
    for one in records:
        acc = [100 * line["acc"] for line in one["lines"]]
        if one["title"] == "phase 1":
            axis.axhline(acc[-1], color="grey", linestyle="--", linewidth=0.8)
            continue
        steps = [STEPS * (i + 1) for i in range(len(acc))]
        first = one is next(other for other in records if other["title"] == one["title"])
        axis.plot(steps, acc, color=colours[one["title"]], label=one["title"] if first else None)
    axis.set_xlabel("iterations of phase 2")
    axis.set_ylabel("ACC of K-means on the code, %")
    axis.legend(fontsize=8)
    return saved(shown)


def codes(source: str, runs: Path) -> bytes:
    """Of seed 0: the first two principal directions of each row's codes, by true class."""
    found = [(title, folder) for title, seed, folder in titles(Path(source).name, runs) if seed == 0]
    shown, axes = plots(len(found))
    for axis, (title, folder) in zip(axes, found, strict=True):
        model = load_model(folder)
        opened = open_source(source, like=model.spec)
        labels = labels_of(source, opened.ids)
        assert labels is not None, f"{source} carries no labels"
        rows = torch.randperm(len(opened.items), generator=torch.Generator().manual_seed(0))[:SHOWN]
        z = extract_features(model.net, opened.items, rows)
        z = z - z.mean(0)
        plane = (z @ torch.linalg.svd(z, full_matrices=False).Vh[:2].T).numpy()
        axis.scatter(*plane.T, c=labels.codes[rows.numpy()], cmap="tab10", s=2, linewidths=0)
        axis.set_title(title, fontsize=9)
    return saved(shown)


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source")
    options.add_argument("--runs", type=Path, help="the runs of rdc_claim.py; without them the curves alone")
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("--figures", type=Path, default=FIGURES)
    given = options.parse_args(words)
    data = Path(given.source).name
    records = json.loads((given.results / f"rdc_claim_{data}.json").read_text(encoding="utf-8"))["records"]
    given.figures.mkdir(parents=True, exist_ok=True)
    write_atomically(given.figures / f"rdc_claim_{data}.png", curves(records))
    if given.runs is not None:
        write_atomically(given.figures / f"rdc_codes_{data}.png", codes(given.source, given.runs))


if __name__ == "__main__":
    main()
