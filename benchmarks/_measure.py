"""What all benchmarks share: median timings, and the JSON file that a benchmark leaves, with the machine in words."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from coterie.training.device import machine

RESULTS = Path(__file__).parent / "results"


def seconds(functions: Sequence[Callable[[], object]], *, repeats: int = 5, warm_up: int = 1) -> list[float]:
    """Return each function's median seconds. They take turns, so that a busy moment of the machine hits them all."""
    for _ in range(warm_up):
        for function in functions:
            function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def write_results(name: str, command: str, **content: Any) -> Path:
    """Write benchmarks/results/NAME.json: the command that made it, the machine, and `content`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps({"command": command, "machine": machine(), **content}, indent=1) + "\n", encoding="utf-8"
    )
    return path
