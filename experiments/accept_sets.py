"""Do accept sets keep their word? Resampled audits of finished runs whose true labels are known.

    python experiments/accept_sets.py fashion-mnist --run runs/reference/fashion-mnist-cdc-0

For each run and each accepted error of 5 % and 10 %: 200 audits, each of a fresh uniform random sample of 300 or 1,000
items, "judged" by the true labels (right: the item's class is the one that the Hungarian matching over all items gives
to its group), at a level of 95 %. `holds` is the share of audits whose claim is true: of the accept set at most so much
is wrong, or nothing was accepted. Beside it what an audit accepts, and the label-free threshold with the error that it
expects and the real one. Nothing is trained. Writes experiments/results/accept_sets.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _runs import RESULTS, finished_record, label_free
from numpy.typing import NDArray

from coterie.data import labels_of
from coterie.evaluation import accept, match
from coterie.prediction.results import read_result
from coterie.training.device import machine

ERRORS, SIZES, AUDITS, LEVEL = (0.05, 0.1), (300, 1000), 200, 0.95
UNKNOWN = -1

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def run_record(source: str, run: Path) -> dict[str, Any]:
    """All audits of one run."""
    begun, record, table = time.monotonic(), label_free(run), read_result(run / "result.parquet")
    labels = labels_of(source, table.ids)
    assert labels is not None, f"{source} carries no labels"
    known = labels.codes != UNKNOWN
    codes, predicted = labels.codes[known], table.labels[known].astype(np.int64)
    confidence = table.confidence[known].astype(np.float64)
    right = match(codes, predicted, record["n_clusters"], len(labels.names)).correct(codes, predicted)
    rows = [error_row(confidence, right, max_error) for max_error in ERRORS]
    return finished_record(
        record,
        len(codes),
        time.monotonic() - begun,
        metrics={"acc": float(right.mean()), "confidence": float(confidence.mean())},
        accept=rows,
    )


def error_row(confidence: Floats, right: Flags, max_error: float) -> dict[str, Any]:
    """One accepted error: the label-free set, and the audits of each size that the data allow."""
    threshold = accept.expected_threshold(confidence, max_error)
    accepted = accept.accepted_items(confidence, threshold)
    label_free = {
        "threshold": threshold,
        "coverage": float(accepted.mean()),
        "expected_error": float(1 - confidence[accepted].mean()) if accepted.any() else None,
        "error": real_error(right, accepted),
    }
    audits = [audit_row(confidence, right, max_error, size) for size in SIZES if size <= len(right)]
    return {"max_error": max_error, "best": best_coverage(confidence, right, max_error)} | {
        "label_free": label_free,
        "audits": audits,
    }


def best_coverage(confidence: Floats, right: Flags, max_error: float) -> float:
    """The share that could be accepted at this error if every item were judged: what no audit can beat on average."""
    order = np.argsort(-confidence, kind="stable")
    error = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    fits = np.flatnonzero(error <= max_error)
    return float((fits[-1] + 1) / len(order)) if len(fits) else 0.0


def audit_row(confidence: Floats, right: Flags, max_error: float, size: int) -> dict[str, Any]:
    """200 audits of one size; the audit with number i has seed i."""
    coverage, errors, passed, holds = [], [], 0, 0
    for seed in range(AUDITS):
        rows = accept.draw_sample(len(right), size, seed)
        chosen = accept.audit(confidence, rows, right[rows], max_error, LEVEL).chosen
        accepted = accept.accepted_items(confidence, chosen.threshold if chosen else None)
        error = real_error(right, accepted)
        passed += chosen is not None
        holds += error is None or error <= max_error
        coverage.append(accepted.mean())
        errors += [] if error is None else [error]
    return {
        "judged": size,
        "audits": AUDITS,
        "level": LEVEL,
        "holds": holds / AUDITS,
        "passed": passed / AUDITS,
        "coverage_mean": float(np.mean(coverage)),
        "coverage_std": float(np.std(coverage, ddof=1)),
        "error_mean": float(np.mean(errors)) if errors else None,
        "error_max": max(errors, default=None),
    }


def real_error(right: Flags, accepted: Flags) -> float | None:
    return float(1 - right[accepted].mean()) if accepted.any() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="the named data set that the runs are of; its labels are read")
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="finished run folders")
    parser.add_argument("--out", type=Path, default=RESULTS / "accept_sets.json")
    given = parser.parse_args()
    records = []
    for run in given.run:
        records.append(run_record(given.source, run))
        print(run.name, json.dumps(records[-1]["accept"]), flush=True)
    command = " ".join(["python experiments/accept_sets.py", given.source, "--run", *(run.name for run in given.run)])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(
        json.dumps({"command": command, "machine": machine(), "records": records}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
