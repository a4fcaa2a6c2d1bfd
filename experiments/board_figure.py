"""CDC's Figure 1 for a board: how sure each method says it is, beside how often it is right.

    python experiments/board_figure.py cdc fashion-mnist-10000

Draws docs/figures/board_<paper>_<data>.png from results/board_<paper>_<data>.json: for each row the mean confidence and
the accuracy, means over its seeds. Runs nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _boards import BOARDS
from _runs import FIGURES, RESULTS, saved
from matplotlib.figure import Figure

from coterie.common.outputs import write_atomically


def bars(paper: str, runs: list[dict[str, Any]]) -> bytes:
    """The figure as a PNG: a pair of bars for each line of the table that has run, in its order."""
    titles, values = [], []
    for shown in BOARDS[paper].shown:
        mine = [one for one in runs if one["row"] == shown.row and not one["failed"]]
        heads = [one["metrics"] if shown.head is None else one["heads"][shown.head] for one in mine]
        if heads:
            titles.append(shown.title)
            values.append([statistics.mean(head[name] for head in heads) for name in ("acc", "confidence")])
    figure = Figure(figsize=(7, 0.6 + 0.32 * len(titles)), layout="constrained")
    axis = figure.add_subplot()
    for at, (name, colour) in enumerate((("accuracy", "#4c78a8"), ("mean confidence", "#f2a65a"))):
        places = [row + 0.2 - 0.4 * at for row in range(len(titles), 0, -1)]
        axis.barh(places, [100 * pair[at] for pair in values], height=0.38, color=colour, label=name)
    axis.set_yticks(range(len(titles), 0, -1), titles, fontsize=8)
    axis.set_xlabel("percent", fontsize=8)
    axis.set_xlim(0, 100)
    axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return saved(figure)


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("paper", choices=list(BOARDS))
    options.add_argument("data", help="as in the name of the records, e.g. fashion-mnist-10000")
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("--figures", type=Path, default=FIGURES)
    given = options.parse_args(words)
    name = f"board_{given.paper}_{given.data}"
    records = json.loads((given.results / f"{name}.json").read_text(encoding="utf-8"))["records"]
    given.figures.mkdir(parents=True, exist_ok=True)
    write_atomically(given.figures / f"{name}.png", bars(given.paper, records))


if __name__ == "__main__":
    main()
