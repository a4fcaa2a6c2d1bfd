"""1,000,000 × 384 embeddings from a memory map through the command: seconds, and memory beyond the file.

    python benchmarks/million.py [--methods kmeans cdc] [--items 1000000] [--limit 3600]

The embeddings of `heads.py`, as float16 in a .npy file of 768 MB, in 50 groups of unequal size that overlap. Each
method is one run of `coterie fit` with its defaults, report included. `own_gb` is the peak of the process' own memory
(`RssAnon`, looked at five times a second); pages of the mapped file are the system's to take back. Writes
benchmarks/results/million.json; numbers of an earlier call are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _measure import RESULTS, write_results
from heads import DIM, GROUPS
from sklearn.metrics import adjusted_rand_score

from coterie.prediction.results import read_result

PART = 10_000


def write_embeddings(path: Path, n: int) -> np.ndarray:
    """Write the file part by part; return the true groups."""
    rng = np.random.default_rng(0)
    sizes, spread = rng.uniform(0.5, 1.5, GROUPS), np.geomspace(1, 0.05, DIM)
    centres, truth = rng.normal(size=(GROUPS, DIM)) * spread, rng.choice(GROUPS, n, p=sizes / sizes.sum())
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, DIM))
    for at in range(0, n, PART):
        own = truth[at : at + PART]
        rows[at : at + PART] = centres[own] + rng.normal(size=(len(own), DIM)) * spread
    rows.flush()
    return truth


def own_memory(process: int) -> float:
    """The process' own memory in GB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("RssAnon")), 0.0)


def fit(file: Path, method: str, truth: np.ndarray, limit: float) -> dict[str, Any]:
    """One run of the command; "stopped" after `limit` seconds, "failed" with the last line of its error."""
    out = file.parent / method
    command = [sys.executable, "-m", "coterie", "fit", str(file), "-k", str(GROUPS), "--method", method, "-q"]
    begun, before, peak = time.monotonic(), os.times(), 0.0
    command += ["-o", str(out), "--seed", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            peak = max(peak, own_memory(running.pid))
            if time.monotonic() - begun > limit:
                running.kill()
                running.wait()
                return {"status": f"stopped after {limit:.0f} s", "own_gb": round(peak, 2)}
            time.sleep(0.2)
        assert running.stderr is not None
        said = running.stderr.read()
    if running.returncode != 0:
        return {"status": f"failed: {said.strip().splitlines()[-1][:200]}", "own_gb": round(peak, 2)}
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    labels = read_result(out / "result.parquet").labels
    return {
        "status": "done",
        "ari": round(float(adjusted_rand_score(truth, labels)), 3),
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(spent, 1),
        "own_gb": round(peak, 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--methods", nargs="+", default=["kmeans", "cdc"])
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--limit", type=float, default=3600.0, help="seconds for each")
    given = options.parse_args()
    path = RESULTS / "million.json"
    found = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "embeddings.npy"
        truth = write_embeddings(file, given.items)
        for method in given.methods:
            found[method] = fit(file, method, truth, given.limit)
            print(method, found[method], flush=True)
            command = "python benchmarks/million.py" + ("" if given.items == 10**6 else f" --items {given.items}")
            write_results(
                "million", command, n=given.items, dim=DIM, file_gb=file.stat().st_size / 2**30, methods=found
            )


if __name__ == "__main__":
    main()
