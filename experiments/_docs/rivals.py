"""The generated part of a method's page that says where it stands among the rivals of each paper (docs/boards.md)."""

from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from typing import Any

from _boards import BOARDS, STAGE, SUPERVISED
from _pages import markdown

from _docs import RESULTS, Block, records, score_cells
from _docs.boards import PREFIX

METRICS = ("acc", "nmi", "ari", "ece")
HEAD = ["", "row", "ACC", "NMI", "ARI", "ECE", "ECE of Cal", "seeds", "place by ACC"]
ABOUT = """\
Percent, mean ± standard deviation over these seeds, last epoch; the place is among the rows that ran there, those that
read labels left out. All rows, with settings and commands: [boards.md](../boards.md).
"""


def table_of(method: str) -> str:
    """Its rows of every board: means over seeds, and its place by accuracy."""
    return f"{markdown(HEAD, _lines()[method])}\n\n{ABOUT}"


@functools.cache
def _lines() -> dict[str, list[list[str]]]:
    """The lines of each method, board by board."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for file in sorted(RESULTS.glob(f"{PREFIX}*.json")):
        board = BOARDS[file.stem.split("_")[1]]
        if board is STAGE:  # its rows are of one method after others
            continue
        runs: list[dict[str, Any]] = [one for one in records(file.stem)["records"] if not one["failed"]]
        by_row: dict[str, list[dict[str, Any]]] = {}
        for one in runs:
            if board.lines[one["row"]].method != SUPERVISED:
                by_row.setdefault(one["row"], []).append(one)
        accuracy = {row: statistics.mean(one["metrics"]["acc"] for one in mine) for row, mine in by_row.items()}
        for shown in board.shown:
            if shown.row not in by_row or shown.head is not None:
                continue
            mine = by_row[shown.row]
            place = 1 + sum(other > accuracy[shown.row] for other in accuracy.values())
            found[board.lines[shown.row].method].append(
                [
                    f"{board.title}, {mine[0]['data']}",
                    shown.title,
                    *score_cells([one["metrics"] for one in mine], METRICS),
                    *score_cells([one["heads"]["cal"] for one in mine if one["calibrated_after"]], ("ece",)),
                    ", ".join(str(one["seed"]) for one in mine),
                    f"{place} of {len(by_row)}" if len(by_row) > 1 else "–",
                ]
            )
    return found


BLOCKS: dict[str, Block] = {f"rivals_of_{method}": functools.partial(table_of, method) for method in _lines()}
