from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from coterie.prediction.results import write_result
from coterie.types import Assignments

# As version 0.1.0 wrote it, shortened.
RECORD: dict[str, Any] = {
    "status": "done",
    "command": "coterie fit points.npy -k 3 -o run",
    "source": {
        "name": "points",
        "origin": "points.npy",
        "kind": "embeddings",
        "n": 12,
        "spec": {"kind": "embeddings", "channels": 0, "height": 0, "width": 0, "dim": 4, "low": 0.0, "high": 0.0},
        "fingerprint": "ab12",
        "family": "vector",
        "skipped": [{"id": "7", "reason": "not finite"}],
        "notes": ["float64 -> float32."],
    },
    "n_clusters": 3,
    "seed": 0,
    "settings": {"n_clusters": 3, "method": "cdc", "seed": 0, "init": None, "overrides": {"cdc.cells": 4}},
    "stages": [{"name": "cdc", "epochs": 2, "settings": {"cells": 4, "threshold": None}}],
    "views": {"flip": 0.5, "crop_scale": [0.2, 1.0]},
    "calibration": None,
    "backbone": {"name": "mlp", "why": "the source holds embeddings"},
    "device": "cpu",
    "processes": 1,
    "precision": {"value": "fp32", "why": "a processor"},
    "versions": {"coterie": "0.1.0", "torch": "2.6.0"},
    "machine": {"system": "Linux", "cores": 2},
    "notes": [],
    "warnings": [],
    "seconds": 1.5,
}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A run folder with a record, a history, metrics and a table; keywords change entries of the record."""

    def make(name: str = "run", **entries: Any) -> Path:
        run = tmp_path / name
        run.mkdir()
        (run / "run.yaml").write_text(yaml.safe_dump(RECORD | entries, sort_keys=False), encoding="utf-8")
        line = {"stage": "cdc", "epoch": 1, "epochs": 2, "losses": {"cluster": 1.0}, "health": {}, "seconds": 0.5}
        line |= {"items_per_second": 24.0, "confidence_histogram": [0] * 49 + [12]}
        (run / "history.jsonl").write_text("".join(json.dumps(line | {"epoch": e}) + "\n" for e in (1, 2)))
        logits = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
        p = torch.from_numpy(logits).softmax(1)
        write_result(run / "result.parquet", Assignments([f"item {i}" for i in range(12)], p, {"cal": p, "clu": p}))
        return run

    return make
