"""The generated parts of the page on the review: what it costs and leaves, how long it takes, what a kill leaves."""

from __future__ import annotations

from typing import Any

from _docs import BENCHMARKS, Block, percent, records, table

SIMULATED = ("digits-1797_cdc", "digits-1797_kmeans", "fashion-mnist-10000_kmeans", "cifar10-jpeg-3000_cdc")
WAYS = {
    "every picture, without groups": "every picture, no groups",
    "random": "one by one, at random",
    "lowest": "one by one, lowest confidence first",
    "margin": "one by one, smallest margin first",
    "gain": "one by one, by expected gain",
    "lowest, alike": "lowest confidence first, with those alike",
    "gain, alike": "expected gain, with those alike",
    "sweep, lowest": "sweep, then lowest confidence",
    "sweep, lowest, alike": "sweep, then with those alike",
    "sweep, lowest, head again": "sweep, 200 answers, head again",
    "sweep, lowest, alike, head again": "sweep, 200 answers with those alike, head again",
}
COMMAND = "python experiments/review_simulation.py"


def _runs() -> list[tuple[dict[str, Any], str]]:
    found = [records(f"review_simulation_{name}") for name in SIMULATED]
    return [(one, content["command"]) for content in found for one in content["records"]]


def _title(run: dict[str, Any]) -> str:
    return f"{run['data']}, {run['method']}"


def simulation() -> str:
    """Errors at so many keys, and the time to an error of 2 %."""
    rows, commands = [], []
    for run, command in _runs():
        commands.append(f"`{command}`")
        for way in run["ways"]:
            errors = [("–" if value is None else percent(value)) for value in way["errors"].values()]
            two, hour = way["reached"]["0.02"], way["pictures_an_hour"]
            minutes = "–" if two is None else f"{two['seconds'] / 60:.0f} ({two['slow_seconds'] / 60:.0f})"
            rows.append([_title(run), WAYS[way["way"]], *errors[:5], minutes, "–" if hour is None else f"{hour:,}"])
    marks = [f"{int(mark):,} keys" for mark in _runs()[0][0]["ways"][0]["errors"]]
    head = ["run", "way", *(f"wrong at {mark}, %" for mark in marks[:5]), "minutes to 2 % (slow)", "pictures an hour"]
    text = table(head, rows, "X")
    return text.replace("`X`\n", "\n".join(dict.fromkeys(commands)) + "\n")


def weights() -> str:
    """What the head trained again makes of the undecided, by its weights."""
    rows = []
    for run, _ in _runs():
        for one in run["weights"]:
            if "held_out" not in one:  # nothing was left to decide
                continue
            before, after = (percent(one[f"undecided_{when}"]) for when in ("before", "after"))
            held = f"{percent(one['held_out'])} ({percent(one['as_it_was'])})"
            rows.append([_title(run), f"{one['fixed_weight']:g}", f"{one['counts']:g}", held, before, after])
    head = ["run", "weight of decided items", "counts in its mini-cluster", "held out right (before), %"]
    return table([*head, "undecided wrong before, %", "after, %"], rows, COMMAND + " SOURCE")


def times() -> str:
    """Seconds of the clock and of the processor by the number of rows."""
    found = records("review_times", BENCHMARKS)
    by = [{one["what"].split(" of ")[0].split(" on ")[0]: one for one in size["times"]} for size in found["results"]]
    rows = [
        [
            name,
            *(f"{size[name]['processor']:.2f} ({size[name]['seconds']:.2f})" if name in size else "–" for size in by),
        ]
        for name in by[-1]
    ]
    rows.append(["peak of memory, MiB", *(str(size["peak_mib"]) for size in found["results"])])
    rows.append(["nodes of a grid", *(str(size["grid_nodes"]) for size in found["results"])])
    rows.append(["other processes that ran", *(str(size["others_running"]) for size in found["results"])])
    return table(["", *(f"{size['rows']:,} rows" for size in found["results"])], rows, found["command"])


def refits() -> str:
    """Training the head again: seconds of the processor and of the clock by the number of rows."""
    found = records("review_refit", BENCHMARKS)
    rows = [
        [f"{one['rows']:,} x {found['width']}", str(one["processor"]), str(one["seconds"])] for one in found["results"]
    ]
    return table(["items x features", "seconds of the processor", "of the clock"], rows, found["command"])


def kills() -> str:
    """What was answered, lost and there twice."""
    one = records("review_kills", BENCHMARKS)
    row = [str(one["kills"]), f"{one['answered']:,}", str(one["lost"]), str(one["twice"])]
    return table(["`kill -9`", "decisions answered", "of them lost", "there twice"], [row], one["command"])


def exports() -> str:
    """Processor seconds and size of each format."""
    found = records("export", BENCHMARKS)
    rows = [
        [f"`{one['format']}`", f"{one['processor_seconds']:.1f}", f"{one['mib_written']:.1f}", f"{one['files']:,}"]
        for one in found["formats"]
    ]
    return table(["format", "seconds", "MiB", "files"], rows, found["command"])


BLOCKS: dict[str, Block] = {
    "review-simulation": simulation,
    "review-weights": weights,
    "review-times": times,
    "review-refit": refits,
    "review-kills": kills,
    "export-times": exports,
}
