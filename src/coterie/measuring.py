"""A finished run beside true labels: `metrics.json`. Nothing here trains or predicts, so torch is not imported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from coterie.common.outputs import write_atomically
from coterie.data import Labels
from coterie.data.labels import about
from coterie.evaluation import evaluate
from coterie.prediction.results import read_result
from coterie.records import groups_of, read_record
from coterie.records.rows import outside_of, taught_by


def evaluate_run(out: Path, labels: Labels) -> dict[str, Any]:
    """Compare a finished run's result table with true labels, and keep the numbers. Raises InputError."""
    metrics = measure_run(out, labels)
    keep_metrics(out, metrics)
    return metrics


def keep_metrics(out: Path, metrics: dict[str, Any]) -> None:
    """Write `metrics.json` into the run folder. Raises NotWritten."""
    write_atomically(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")


def measure_run(out: Path, labels: Labels) -> dict[str, Any]:
    """A finished run's result table beside true labels; nothing is written."""
    record = read_record(out)
    table = read_result(out / "result.parquet", record.get("source", {}).get("n"), groups_of(record))
    used, outside = (marked(record, len(table.ids)) for marked in (taught_by, outside_of))
    codes = labels.codes.copy()
    codes[used] = -1  # what was judged may not check what it has taught
    note = about(replace(labels, codes=codes), table.labels)
    by_head = {name: evaluate(codes, p, class_names=labels.names, far=outside) for name, p in table.heads.items()}
    answer = next(iter(by_head.values()))
    heads = {
        name: {key: value for key, value in numbers.items() if key == "sizes" or not isinstance(value, dict | list)}
        for name, numbers in by_head.items()
    }
    metrics = {**answer, "heads": heads, "labels": note}
    if used.any():
        metrics["labels_used"] = int(used.sum())
    return metrics
