"""Seconds and peak memory of each head on 100,000 made embeddings of 384 features in 50 groups, and of choose-k.

    python benchmarks/heads.py                              # every one, each in a process of its own
    python benchmarks/heads.py kmeans vmf --limit 120       # those, each for at most two minutes

Practical presets, without the calibration head on top. `cpu_seconds` is the processor time of all threads, which other
work on the machine changes less than `seconds`. What was stopped by the limit, or not asked for, says so; numbers of an
earlier call are kept. Writes benchmarks/results/heads.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

import numpy as np
from _measure import RESULTS, in_a_process, write_results

N, DIM, GROUPS = 100_000, 384, 50
CHOOSE_K = "choose-k"
HEADS = ("kmeans", "vmf", "temi", "turtle", "scan", "cdc", CHOOSE_K)


def made(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (n, 384) and their groups: 50 of unequal size that overlap, with a spread that falls by feature."""
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.5, 1.5, GROUPS)
    truth = rng.choice(GROUPS, n, p=sizes / sizes.sum())
    spread = np.geomspace(1, 0.05, DIM)
    rows = rng.normal(size=(GROUPS, DIM))[truth] * spread + rng.normal(size=(n, DIM)) * spread
    return rows.astype(np.float32), truth


def measure(name: str) -> dict[str, Any]:
    """One head in this process, after its data are made and libraries imported."""
    from sklearn.metrics import adjusted_rand_score

    from coterie.choosing import choose_k
    from coterie.pipeline import run
    from coterie.training.plan import RunSettings

    rows, truth = made()
    begun, used = time.perf_counter(), time.process_time()
    found: dict[str, Any] = {}
    if name == CHOOSE_K:
        found["k"] = choose_k(rows).k
    else:
        done = run(rows, RunSettings(n_clusters=GROUPS, method=name, device="cpu", calibrate=False))
        found["ari"] = round(float(adjusted_rand_score(truth, done.assignments.probabilities.argmax(1).numpy())), 3)
    found |= {"seconds": round(time.perf_counter() - begun, 1), "cpu_seconds": round(time.process_time() - used, 1)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["peak_gb"] = round(peak * (1 if sys.platform == "darwin" else 1024) / 2**30, 2)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("heads", nargs="*", help=", ".join(HEADS))
    options.add_argument("--limit", type=float, default=3600.0, help="seconds for each")
    options.add_argument("--one", choices=HEADS, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one is not None:
        print(json.dumps(measure(given.one)))
        return
    if unknown := set(given.heads) - set(HEADS):
        options.error(f"{', '.join(sorted(unknown))}: known are {', '.join(HEADS)}")
    path = RESULTS / "heads.json"
    found = {name: {"status": "not run"} for name in HEADS}
    found |= json.loads(path.read_text(encoding="utf-8"))["heads"] if path.is_file() else {}
    for name in given.heads or HEADS:
        found[name] = in_a_process(__file__, [name], given.limit)
        print(name, found[name], flush=True)
        write_results("heads", "python benchmarks/heads.py", n=N, dim=DIM, groups=GROUPS, heads=found)


if __name__ == "__main__":
    main()
