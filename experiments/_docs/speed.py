"""The generated parts on what a training step costs: beside its bare passes, and beside the authors' loops."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _pages import markdown

from _docs import BENCHMARKS, OLDER, Block, records, table
from coterie.catalogue import method_class, own_names
from coterie.contract import is_trained


def steps(folder: Path = BENCHMARKS) -> str:
    """A row for each method that takes steps, the dearest beside its passes first."""
    found = records("steps", folder)
    done = {name: one for name, one in found["methods"].items() if one["status"] == "done"}
    rows = [
        [f"[{name}](methods/{name}.md)", str(one["batch"]), f"`{one['backbone']}`", one["precision"]]
        + [f"{1000 * one[key]:,.0f}" for key in ("step_seconds", "bare_seconds")]
        + [f"{one['ratio']:.2f}", f"{one['ratios'][0]:.2f} to {one['ratios'][-1]:.2f}"]
        for name, one in sorted(done.items(), key=lambda pair: -pair[1]["ratio"])
    ]
    rest = {name: "not run" for name in own_names() if is_trained(method_class(name)) and folder == BENCHMARKS}
    rest |= {name: one["status"] for name, one in found["methods"].items()}
    rows += [[name, status, *[""] * 6] for name, status in rest.items() if status != "done"]
    head = ["", "batch", "backbone", "precision", "step, ms", "bare passes, ms", "ratio", "of five pairs"]
    return table(head, rows, found["command"])


def beside_authors(folder: Path = BENCHMARKS) -> str:
    """A row for each loop of authors that either kind of processor has a record of."""
    if not (folder / "beside_authors.json").exists():
        return "Not run: `python benchmarks/beside_authors.py`.\n"
    found = records("beside_authors", folder)
    other = OLDER if folder == BENCHMARKS else BENCHMARKS
    known = records("beside_authors", other)["methods"] if (other / "beside_authors.json").exists() else {}
    rest = {name: {**one, "status": "not run"} for name, one in known.items() if name not in found["methods"]}
    rows = []
    for name, one in (found["methods"] | rest).items():
        if one["status"] != "done":
            rows.append([name, f"`{one['repository']}`", one["status"], *[""] * 5])
            continue
        times = [f"{one[key]:.2f}" for key in ("authors_seconds", "seconds_float32", "seconds")]
        faster = [f"{one['times_faster_float32']:.1f}", f"{one['times_faster']:.1f} ({one['precision']})"]
        rows.append([name, f"`{one['repository']}`", str(one["batch"]), *times, *faster])
    head = ["", "their repository", "batch", "theirs, s", "ours in float32, s", "ours, s"]
    return table([*head, "times faster in float32", "times faster"], rows, found["command"])


def processors() -> str:
    """What both kinds of processor were measured at, side by side."""
    newer, older = (
        {name: records(name, folder) for name in ("startup", "speed", "allocator", "metrics")}
        for folder in (BENCHMARKS, OLDER)
    )
    rows = []
    for title, name, read in PARTS:
        found = (newer[name], older[name])
        rows.append(
            [title, f"`{name}.py`", *(cell for one in found for cell in (read(one), str(one["machine"]["threads"])))]
        )
    head = ["", "`benchmarks/`", "AVX-512, bfloat16", "threads", "without", "threads"]
    return f"{markdown(head, rows)}\n"


PARTS: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("`coterie --help`, s", "startup", lambda one: f"{one['help']['median_seconds']:.2f}"),
    (
        "`from coterie import Clusterer`, s",
        "startup",
        lambda one: f"{one['import of Clusterer']['median_seconds']:.1f}",
    ),
    ("a bad source is refused, s", "startup", lambda one: f"{one['fit of a missing folder']['median_seconds']:.1f}"),
    ("views a second", "speed", lambda one: f"{one['views']['views_per_second']:,}"),
    ("beside PIL's", "speed", lambda one: f"{one['views']['times']:.0f} times"),
    ("pictures predicted a second", "speed", lambda one: f"{one['predict']['images_per_second']:,}"),
    ("of the speed of bare passes", "speed", lambda one: f"{one['predict']['ratio']:.0%}"),
    (
        "`small-16`, there and back, batch of 256, ms",
        "allocator",
        lambda one: f"{1000 * one['small-16']['kept_seconds']:,.0f}",
    ),
    ("`small-32`, the same, ms", "allocator", lambda one: f"{1000 * one['small-32']['kept_seconds']:,.0f}"),
    ("all metrics of a million rows, s", "metrics", lambda one: f"{one['results'][0]['seconds']:.1f}"),
)
BLOCKS: dict[str, Block] = {
    "steps": steps,
    "steps-older": functools.partial(steps, OLDER),
    "beside-authors": beside_authors,
    "beside-authors-older": functools.partial(beside_authors, OLDER),
    "processors": processors,
}
