"""The generated parts of docs/boards.md: each board that has records, and which of its paper's orderings hold."""

from __future__ import annotations

import functools
import statistics
from typing import Any

from _boards import BOARDS, SUPERVISED, Board, Order, Printed, TableLine
from _pages import in_words, markdown, mean_and_deviation

from _docs import RESULTS, Block, records, table

COLUMNS = {
    "acc": "ACC",
    "nmi": "NMI",
    "ari": "ARI",
    "ece": "ECE",
    "ece_debiased": "ECE, debiased",
    "auroc": "AUROC",
}
PREFIX = "board_"
NOT_RUN = "not run"


def board(stem: str) -> str:
    """The table of a board, row by row beside the paper's numbers, and the orderings."""
    found = records(stem)
    here = BOARDS[stem.split("_")[1]]
    runs: list[dict[str, Any]] = found["records"]
    done = [one for one in runs if not one["failed"]]
    data, printed = here.beside(done[0]["data"])
    head = ["", *_columns(here).values(), "ECE of Cal", "seconds", "MiB", "epochs", "seeds", "on"]
    head.append(f"paper, {data}: {' / '.join(here.printed)}")
    ran = {one["row"] for one in runs}
    missing = [shown.title for shown in here.shown if shown.row not in ran]
    few = 2 * len(missing) > len(here.shown)  # a table of mostly empty lines is a sentence
    lines = [_line(here, shown, runs, printed) for shown in here.shown if shown.row in ran or not few]
    lines += [[title, f"not run: {why}", *[""] * (len(head) - 2)] for title, why in here.quoted.items()]
    first = done[0]
    about = (
        f"{first['data']}: {first['n']:,} images, {first['k']} groups; backbone of the first row that trains: "
        f"`{next((one['backbone'] for one in done if one['backbone'] != 'identity'), first['backbone'])}`; "
        f"{_machines(done)}. Percent, mean ± standard deviation over seeds; last epoch. Seconds are without "
        "those of the run that a row starts from, and with those of the calibration head; where two machines took "
        "part, the mean on each. `ECE of Cal` is that of the "
        "head that is calibrated afterwards, where a method is not calibrated by itself."
    )
    about += f" Not run: {', '.join(missing)}." if few else ""
    return f"{table(head, lines, found['command'])}\n{about}\n{_orders(here, runs, data, printed)}"


def _columns(here: Board) -> dict[str, str]:
    """The numbers that every board has, and macro F1 where the paper prints it."""
    return {"f1": "F1", **COLUMNS} if "F1_macro" in here.printed else COLUMNS


def _machines(done: list[dict[str, Any]]) -> str:
    """Where the rows ran; a row without a machine of its own is one of an older record."""
    return "; ".join(dict.fromkeys(in_words(one["machine"]) for one in done if "machine" in one)) or "machine not told"


def _place(record: dict[str, Any]) -> str:
    """A card, or the processor, whose seconds do not compare with those of a card."""
    return "card" if record.get("machine", {}).get("gpu") else "processor"


def _line(here: Board, shown: TableLine, runs: list[dict[str, Any]], printed: Printed) -> list[str]:
    mine = [one for one in runs if one["row"] == shown.row]
    done = [one for one in mine if not one["failed"]]
    theirs = printed.get(shown.title, {})
    paper = " / ".join(f"{theirs[name]:g}" if name in theirs else "–" for name in here.printed) if theirs else "–"
    title = f"{shown.title} (reads labels)" if here.lines[shown.row].method == SUPERVISED else shown.title
    if not done:
        why = NOT_RUN if not mine else f"failed: {mine[0]['failed']}"
        return [title, why, *[""] * (len(_columns(here)) + 5), paper]
    numbers = [mean_and_deviation([_of(one, shown)[key] for one in done]) for key in _columns(here)]
    if len(done) < len(mine):
        numbers[0] += f" ({len(mine) - len(done)} of {len(mine)} failed)"
    after = [one["heads"]["cal"]["ece"] for one in done if one["calibrated_after"]]
    epochs = " + ".join(f"{count}" for count in done[0]["epochs"].values() if count) or "–"
    seconds: dict[str, list[float]] = {}
    for one in done:
        seconds.setdefault(_place(one), []).append(one["seconds"])
    return [
        title,
        *numbers,
        mean_and_deviation(after),
        ", ".join(f"{statistics.mean(found):.0f}" for found in seconds.values()),
        f"{max(one['peak_mib'] for one in done):,}",
        epochs,
        ", ".join(str(one["seed"]) for one in done),
        ", ".join(seconds),
        paper,
    ]


def _of(record: dict[str, Any], shown: TableLine) -> dict[str, float]:
    found: dict[str, float] = record["metrics"] if shown.head is None else record["heads"][shown.head]
    return found


def _orders(here: Board, runs: list[dict[str, Any]], data: str, printed: Printed) -> str:
    """Which of the orders that the paper's numbers have on its set `data` ours have, too; nothing if none was run."""
    lines = [[order.text, *_holds(here, order, runs)] for order in here.orders if order.stated(printed)]
    if all(line[1] == NOT_RUN for line in lines):
        return ""
    return "\n" + markdown([f"what the paper's table says of {data}", "here", "numbers"], lines) + "\n"


def _holds(here: Board, order: Order, runs: list[dict[str, Any]]) -> tuple[str, str]:
    """Whether an ordering holds of our means, over the rows that ran; and the two numbers that decide it.

    The means are over the seeds that all of these rows have: a row with more of them would be compared by other runs.
    """
    by_title = {shown.title: shown for shown in here.shown}
    found: dict[str, dict[int, float]] = {}
    for title in (*order.lower, *order.higher):
        shown = by_title[title]
        done = [one for one in runs if one["row"] == shown.row and not one["failed"]]
        if done:
            found[title] = {one["seed"]: _of(one, shown)[order.metric] for one in done}
    shared = set.intersection(*map(set, found.values())) if found else set()
    means = {title: statistics.mean(values[seed] for seed in shared) for title, values in found.items() if shared}
    low = {title: means[title] for title in order.lower if title in means}
    high = {title: means[title] for title in order.higher if title in means}
    if not low or not high:
        return NOT_RUN, ""
    most, least = max(low, key=low.__getitem__), min(high, key=high.__getitem__)
    numbers = f"{most} {100 * low[most]:.1f}, {least} {100 * high[least]:.1f}"
    if any(set(values) != shared for values in found.values()):
        numbers += f" (seed{'s' if len(shared) > 1 else ''} {', '.join(map(str, sorted(shared)))})"
    missing = [title for title in (*order.lower, *order.higher) if title not in means]
    said = "holds" if low[most] < high[least] else "does not hold"
    return said + (f" (without {', '.join(missing)})" if missing else ""), numbers


BLOCKS: dict[str, Block] = {
    file.stem: functools.partial(board, file.stem) for file in sorted(RESULTS.glob(f"{PREFIX}*.json"))
}
