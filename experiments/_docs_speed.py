"""The generated parts on what a training step costs: beside its bare passes, and beside the authors' loops."""

from __future__ import annotations

from _docs import BENCHMARKS, Block, records, table

from coterie.catalogue import method_class, own_names
from coterie.contract import is_trained


def steps() -> str:
    """A row for each method that takes steps, the dearest beside its passes first."""
    found = records("steps", BENCHMARKS)
    done = {name: one for name, one in found["methods"].items() if one["status"] == "done"}
    rows = [
        [f"[{name}](methods/{name}.md)", str(one["batch"]), f"`{one['backbone']}`", one["precision"]]
        + [f"{1000 * one[key]:,.0f}" for key in ("step_seconds", "bare_seconds")]
        + [f"{one['ratio']:.2f}", f"{one['ratios'][0]:.2f} to {one['ratios'][-1]:.2f}"]
        for name, one in sorted(done.items(), key=lambda pair: -pair[1]["ratio"])
    ]
    rest = {name: "not run" for name in own_names() if is_trained(method_class(name))}
    rest |= {name: one["status"] for name, one in found["methods"].items()}
    rows += [[name, status, *[""] * 6] for name, status in rest.items() if status != "done"]
    head = ["", "batch", "backbone", "precision", "step, ms", "bare passes, ms", "ratio", "of five pairs"]
    return table(head, rows, found["command"])


def beside_authors() -> str:
    found = records("beside_authors", BENCHMARKS)
    rows = []
    for name, one in found["methods"].items():
        if one["status"] != "done":
            rows.append([name, f"`{one['repository']}`", one["status"], *[""] * 5])
            continue
        times = [f"{one[key]:.2f}" for key in ("authors_seconds", "seconds_float32", "seconds")]
        faster = [f"{one['times_faster_float32']:.1f}", f"{one['times_faster']:.1f} ({one['precision']})"]
        rows.append([name, f"`{one['repository']}`", str(one["batch"]), *times, *faster])
    head = ["", "their repository", "batch", "theirs, s", "ours in float32, s", "ours, s"]
    return table([*head, "times faster in float32", "times faster"], rows, found["command"])


BLOCKS: dict[str, Block] = {"steps": steps, "beside-authors": beside_authors}
