"""All evaluation metrics on a million rows of ten probabilities: seconds, and peak memory beyond the input.

    python benchmarks/metrics.py [--rows 1000000] [--classes 10]

`evaluate` computes everything that `metrics.json` holds, with 200 bootstrap resamples; `separation` the five numbers of
two such sets of scores. Each part runs in a process of its own, whose peak resident set is what the operating system
counted; beyond the input means above the resident set once input and libraries were there. `processor_seconds` are
those that the process worked, whatever else ran on the machine. Probabilities are float32
softmax rows of random logits, half of the classes right, so that nearly all confidences differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
from _measure import resident, write_results

PARTS = ("evaluate", "evaluate without intervals", "separation")


def random_rows(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and float32 probabilities, made in pieces so that making them is not the peak."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, rows)
    probabilities = np.empty((rows, classes), dtype=np.float32)
    for start in range(0, rows, 50_000):
        logits = 2 * generator.standard_normal((len(labels[start : start + 50_000]), classes), dtype=np.float32)
        logits[np.arange(len(logits)), labels[start : start + 50_000]] += 3
        np.exp(logits, out=logits)
        probabilities[start : start + 50_000] = logits / logits.sum(axis=1, keepdims=True)
    return labels, probabilities


def measure(part: str, rows: int, classes: int) -> dict[str, Any]:
    """Run one part once, after a small warm-up that loads what it imports."""
    from coterie.evaluation import evaluate, evaluate_separation

    def names(k: int) -> list[str]:
        return [str(c) for c in range(k)]

    def work(labels: np.ndarray, p: np.ndarray) -> dict[str, Any]:
        if part == "separation":
            return evaluate_separation(p[:, 0], p[:, 1])
        return evaluate(labels, p, class_names=names(p.shape[1]), **({} if part == "evaluate" else {"resamples": 0}))

    work(*random_rows(1000, 4))
    labels, probabilities = random_rows(rows, classes)
    before = resident("VmRSS")
    start, worked = time.perf_counter(), time.process_time()
    found = work(labels, probabilities)
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    return {
        "part": part,
        "seconds": round(seconds, 2),
        "processor_seconds": round(worked, 2),
        "input_mib": round((labels.nbytes + probabilities.nbytes) / 2**20, 1),
        "peak_mib_beyond_the_input": round(resident("VmHWM") - before, 1),
        "peak_mib": resident("VmHWM"),
        "numbers": {name: round(value, 4) for name, value in found.items() if isinstance(value, float)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        print(json.dumps(measure(given.part, given.rows, given.classes)))
        return
    size = ["--rows", str(given.rows), "--classes", str(given.classes)]
    records = []
    for part in PARTS:
        command = [sys.executable, __file__, *size, "--part", part]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        records.append(json.loads(done.stdout.splitlines()[-1]))
        print(records[-1], flush=True)
    named = " ".join(["python benchmarks/metrics.py", *size])
    print(write_results("metrics", named, rows=given.rows, classes=given.classes, results=records))


if __name__ == "__main__":
    main()
