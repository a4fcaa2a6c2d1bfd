"""The generated table of a method's page, of every record that `method_reference.py` has made: no list to edit."""

from __future__ import annotations

import functools
import statistics

from _pages import in_words, markdown

from _docs import BENCHMARKS, RESULTS, SCORES, Block, mean_percent, records, score_cells, table
from coterie.catalogue import own_names

PREFIX = "method_reference_"


def method(stem: str) -> str:
    """Each head over the seeds; below it the command, and what it ran on."""
    found = records(stem)
    runs = found["records"]
    heads = [[head, *score_cells([one["heads"][head] for one in runs], SCORES)] for head in runs[0]["heads"]]
    seconds = statistics.mean(one["seconds"] for one in runs)
    ground = f"{runs[0]['n']:,} items, backbone `{runs[0]['backbone']}`, {seconds:.0f} s a run"
    return f"{table(['head', *SCORES.values()], heads, found['command'])}\n{ground} ({in_words(found['machine'])}).\n"


def on_digits() -> str:
    """Every method's own answer on digits, the highest mean accuracy first, and the calibration head's ECE."""
    lines, seen = [], set()
    for file in RESULTS.glob(f"{PREFIX}*_digits*.json"):
        runs = records(file.stem)["records"]
        name = runs[0]["method"]
        seen.add(name)
        variant = file.stem.removeprefix(f"{PREFIX}{name}_").removeprefix("digits").removeprefix("-")
        label = f"[{name}](methods/{name}.md)" + (f", {variant}" if variant else "")
        calibrated = [one["heads"]["cal"]["ece"] for one in runs if "cal" in one["heads"]]
        seconds = f"{statistics.mean(one['seconds'] for one in runs):.0f}"
        cells = score_cells([one["metrics"] for one in runs], ("acc", "nmi", "ari", "ece"))
        ece = mean_percent(calibrated) if calibrated else ""
        order = (-statistics.mean(one["metrics"]["acc"] for one in runs), file.stem)
        lines.append((order, [label, *cells, ece, seconds, ", ".join(str(one["seed"]) for one in runs)]))
    head = ["method", "ACC", "NMI", "ARI", "ECE", "ECE of Cal", "seconds", "seeds"]
    missing = ", ".join(f"[{name}](methods/{name}.md)" for name in own_names() if name not in seen)
    rest = f"\n\nNot run by this command: {missing}.\n" if missing else "\n"
    return markdown(head, [cells for _, cells in sorted(lines)]) + rest


def untrained() -> str:
    """The methods that train nothing and the libraries beside them: processor seconds, memory, ARI, and the growth."""
    found = records("untrained", BENCHMARKS)
    sizes, rows = sorted(found["sizes"], key=int), []
    for name in found["sizes"][sizes[0]]:
        runs = [found["sizes"][size].get(name, {"status": "not run"}) for size in sizes]
        cells = [
            cell
            for one in runs
            for cell in (
                (f"{one['cpu_seconds']:.0f}", f"{one['peak_gb']:.1f}", f"{one['ari']:.2f}")
                if one["status"] == "done"
                else (one["status"], "", "")
            )
        ]
        all_done = all(one["status"] == "done" for one in runs)
        growth = f"{runs[-1]['cpu_seconds'] / max(0.1, runs[0]['cpu_seconds']):.0f}" if all_done else ""
        rows.append([name, *cells, growth])
    head = [f"{what}, {int(size):,}" for size in sizes for what in ("seconds", "peak GB", "ARI")]
    return table(["", *head, "seconds, times"], rows, found["command"])


BLOCKS: dict[str, Block] = {"on_digits": on_digits, "untrained": untrained} | {
    file.stem.removeprefix(PREFIX): functools.partial(method, file.stem)
    for file in sorted(RESULTS.glob(f"{PREFIX}*.json"))
}
