"""CDC's Figure 7: reliability diagrams of finished runs, every head, bins of all runs added up.

    python experiments/reliability.py fashion-mnist runs/reference/fashion-mnist-cdc-{0,1,2}

Each bar is the accuracy of the items whose confidence lies in it, beside the line where both are equal; below, how many
items it holds. Labels are read for the figure only. Writes results/reliability_<data>.json and
docs/figures/reliability_<data>.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _runs import FIGURES, RESULTS, label_free, saved, write_study
from numpy.typing import NDArray

from coterie.data import Labels, labels_of
from coterie.evaluation import calibration_error, match, reliability
from coterie.prediction.results import read_result
from coterie.types import InputError

BINS = 15
NAMES = {"clu": "CDC-Clu", "cal": "CDC-Cal", "kmeans": "K-means"}


def judged(out: Path, source: str) -> dict[str, tuple[NDArray[np.floating], NDArray[np.bool_]]]:
    """Confidence of each item and whether it is right, for each head of a run."""
    label_free(out)
    result = read_result(out / "result.parquet")
    labels = labels_of(source, result.ids)
    if labels is None:
        raise InputError(f"{source} carries no labels, without which there is nothing to draw.")
    return {name: right(labels, p) for name, p in result.heads.items()}


def right(labels: Labels, p: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """An item is right where its group's class, by the matching that ACC takes, is its own."""
    label = p.argmax(1)
    return p.max(1), match(labels.codes, label, p.shape[1], len(labels.names)).correct(labels.codes, label)


def figure(heads: dict[str, dict[str, Any]]) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown, axes = pyplot.subplots(
        2,
        len(heads),
        figsize=(3.4 * len(heads), 4),
        layout="constrained",
        sharex=True,
        squeeze=False,
        height_ratios=(3, 1),
    )
    for (above, below), (name, head) in zip(axes.T, heads.items(), strict=True):
        bars = head["bins"]
        left, width = [bar["lower"] for bar in bars], 1 / len(bars)
        above.bar(
            left, [bar["accuracy"] or 0 for bar in bars], width, align="edge", edgecolor="white", color="tab:blue"
        )
        above.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        above.set_title(f"{NAMES.get(name, name)}: ECE {100 * head['ece']:.1f} %", fontsize=10)
        below.bar(left, [bar["count"] for bar in bars], width, align="edge", edgecolor="white", color="tab:grey")
        below.set_xlabel("confidence")
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("items")
    return saved(shown)


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source", help="a named data set with labels")
    options.add_argument("folders", type=Path, nargs="+", help="finished runs on it")
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("--figures", type=Path, default=FIGURES)
    given = options.parse_args(words)
    runs = [judged(out, given.source) for out in given.folders]
    heads: dict[str, dict[str, Any]] = {}
    for name in runs[0]:
        confidence, correct = (np.concatenate(part) for part in zip(*(run[name] for run in runs), strict=True))
        error = calibration_error(confidence, correct, bins=BINS)
        heads[name] = {"ece": float(error), "bins": reliability(confidence, correct, bins=BINS)}
        print(name, f"ECE {error:.4f}", flush=True)
    command = " ".join(["python experiments/reliability.py", given.source, *(out.name for out in given.folders)])
    records = [{"data": given.source, "runs": [out.name for out in given.folders], "heads": heads}]
    write_study(f"reliability_{given.source}", given, command, records, figure(heads))


if __name__ == "__main__":
    main()
