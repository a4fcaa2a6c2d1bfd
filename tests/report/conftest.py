import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from coterie.evaluation import evaluate
from coterie.report import gallery_rows


def probabilities(n: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), np.arange(n) % k] += 4 * rng.random(n)
    p = np.exp(logits)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder as the pipeline does, with just the parts asked for."""

    def make(
        n: int = 60,
        k: int = 4,
        kind: str = "images",
        class_names: list[str] | None = None,
        ids: list[str] | None = None,
        side: int = 8,
        top: int = 0,
        has_result: bool = True,
        **run: Any,
    ) -> Path:
        spec = {"kind": kind, "channels": 3, "height": side, "width": side, "dim": 5}
        content = {
            "status": "done",
            "source": {"name": "photos", "origin": "photos/", "n": n, "spec": spec, "fingerprint": "ab", "skipped": []},
            "n_clusters": k,
            "seed": 7,
            "stages": [{"name": "moco", "settings": {"queue": 64}, "epochs": 3, "seconds": 3.0, "status": "done"}],
            "command": "coterie fit photos/ -k 4",
            "seconds": 75.0,
            "calibrated": True,
            "versions": {"coterie": "0.1.0"},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(content | run), encoding="utf-8")
        lines = [
            {"stage": "moco", "epoch": e, "epochs": 3, "losses": {"contrast": 6 / e}, "health": {"embedding_std": 0.1}}
            for e in (1, 2, 3)
        ]
        (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if not has_result:
            return tmp_path
        p, ids = probabilities(n, k), ids or [f"photo_{i:03}.png" for i in range(n)]
        labels, confidence = p.argmax(1), p.max(1)
        columns: dict[str, Any] = {"id": ids, "label": pa.array(labels, pa.int32()), "confidence": confidence}
        if top:
            order = np.argsort(-p, axis=1)[:, :top]
            columns["top_labels"] = order.tolist()
            columns["top_probabilities"] = np.take_along_axis(p, order, axis=1).tolist()
        else:
            columns["probabilities"] = pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), k)
        pq.write_table(pa.table(columns), tmp_path / "result.parquet")
        rows = np.arange(n)
        np.savez(tmp_path / "map.npz", rows=rows, xy=np.random.default_rng(1).normal(size=(n, 2)).astype(np.float32))
        if kind == "images":
            picked = gallery_rows(labels, confidence)
            images = np.random.default_rng(2).integers(0, 256, (n, side, side, 3), dtype=np.uint8)[picked.rows]
            chosen = np.array(ids)[picked.rows]
            np.savez(
                tmp_path / "gallery.npz",
                rows=picked.rows,
                cluster=picked.cluster,
                kind=picked.kind,
                images=images,
                ids=chosen,
            )
        if class_names:
            metrics = evaluate(rows % len(class_names), p, class_names=class_names)
            metrics["heads"] = {"clu": {"acc": 0.123, "ece": 0.456}, "cal": {"acc": 0.5, "ece": 0.01}}
            (tmp_path / "metrics.json").write_text(json.dumps(metrics))
        return tmp_path

    return make
