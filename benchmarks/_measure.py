"""What all benchmarks share: median timings, parts in processes of their own, and the JSON file that one leaves."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from coterie.training.device import cpu_has_bf16, machine

# Seconds of the two kinds of processor do not compare: each has a folder, and both stay.
RESULTS = Path(__file__).parent / "results" / ("" if cpu_has_bf16() else "without_bfloat16")


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


def in_a_process(script: str, words: Sequence[str], limit: float, memory: float | None = None) -> dict[str, Any]:
    """What `script --one WORDS` prints in its last line, as JSON; "stopped" after `limit` seconds, "failed" with the
    last line of its error. `memory`: the most GB of its own that it may have."""

    def bounded() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(memory * 2**30),) * 2)

    command = [sys.executable, script, "--one", *words]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, preexec_fn=bounded)
    except subprocess.TimeoutExpired:
        return {"status": f"stopped after {limit:.0f} s"}
    if said.returncode != 0:
        return {"status": f"failed: {(said.stderr.strip().splitlines() or ['killed'])[-1][:200]}"}
    return {"status": "done", **json.loads(said.stdout.splitlines()[-1])}


def resident(what: str) -> float:
    """A line of this process' status in MiB. `VmHWM` is the peak resident set (getrusage's would be inherited from the
    process that started this one), `VmRSS` the present one, `RssAnon` its own memory now, and `RssFile` the pages of
    mapped files, which count as resident but are the system's to take back.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return round(next(int(line.split()[1]) for line in status if line.startswith(what)) / 1024, 1)


def write_results(name: str, command: str, **content: Any) -> Path:
    """Write NAME.json below benchmarks/results/: the command that made it, the machine, and `content`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps({"command": command, "machine": machine(), **content}, indent=1) + "\n", encoding="utf-8"
    )
    return path
