"""Ray's workers write what the local engine writes. Skipped where Ray is not installed, for it is large."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from helpers.encoder_weights import random_weights

pytest.importorskip("ray", reason="Ray is not installed: pip install 'coterie[ray]'")

# In a process of its own: Ray starts threads and processes that a test's process would keep.
SCRIPT = """
import contextlib, json, os, signal, sys, threading, time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import ray
import torch

import coterie
from coterie.scaling import partitions
from coterie.scaling.engines import engine_called, here
from coterie.scaling.predicting import Asked, predict_parts
from coterie.types import InputError

run, rows, bad, photos, weights, out = map(Path, sys.argv[1:])
torch.set_num_threads(1)
handler = signal.getsignal(signal.SIGTERM)
found = {}


def refusal(asked, folder, engine):
    try:
        predict_parts(asked, folder, engine)
    except InputError as error:
        return str(error)


os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
found["nowhere"] = refusal(Asked(run, str(rows), "cpu"), out / "nowhere", engine_called("ray"))
del os.environ["RAY_ADDRESS"]
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=128 << 20, log_to_driver=False, logging_level="ERROR")
two = engine_called("ray", 2)


def kill_a_worker():
    while not found.get("killed"):
        time.sleep(0.02)
        with contextlib.suppress(psutil.Error):  # others come and go
            for process in psutil.Process().children(recursive=True):
                if not found.get("killed") and "ray::Map" in "".join(process.cmdline()):
                    process.kill()
                    found["killed"] = True


threading.Thread(target=kill_a_worker, daemon=True).start()
asked = Asked(run, str(rows), "cpu", embedding=True, scores=("knn",))
predict_parts(asked, out / "ray", two).parts.merge(out / "ray.parquet")
predict_parts(asked, out / "here", here).parts.merge(out / "here.parquet")
found["rows"] = pq.read_table(out / "ray.parquet").equals(pq.read_table(out / "here.parquet"))
found["bad"] = refusal(Asked(run, str(bad), "cpu"), out / "bad", two)
how = {"encoder": "test_vit", "weights": str(weights), "device": "cpu", "max_skipped": 0.5}
coterie.embed(str(photos), output=str(out / "by-ray"), engine="ray", workers=2, **how)
coterie.embed(str(photos), output=str(out / "by-one"), **how)
names = ("features.npy", "items.parquet", "features.json")
content = {kind: [(out / kind / name).read_bytes() for name in names] for kind in ("by-ray", "by-one")}
found["files"] = content["by-ray"] == content["by-one"]
found["left"] = sorted(path.name for path in (out / "by-ray").iterdir())
found["ray"] = ray.is_initialized()
found["handler"] = signal.getsignal(signal.SIGTERM) is handler
print(json.dumps(found))
ray.shutdown()
"""


@pytest.mark.slow
def test_workers_write_what_one_process_writes_and_lose_nothing_when_killed(of_rows: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(2000, 8)).astype(np.float32)
    (tmp_path / "rows").mkdir()
    for number in range(2):
        table = pa.table({"features": list(rows[1000 * number :][:1000])})
        pq.write_table(table, tmp_path / "rows" / f"{number}.parquet", row_group_size=300)
    rows[1500, 2] = np.inf
    np.save(tmp_path / "bad.npy", rows)
    (tmp_path / "photos").mkdir()
    for row in range(300):
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 36)).save(tmp_path / "photos" / f"{row:03d}.png")
    (tmp_path / "photos" / "017.png").write_bytes(b"no picture")
    weights = random_weights(tmp_path, "test_vit")
    arguments = [of_rows, tmp_path / "rows", tmp_path / "bad.npy", tmp_path / "photos", weights, tmp_path]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"]
    assert found["killed"]
    assert "infinity or a value too large for float32: row 1500, column 2 of bad" in found["bad"]
    assert found["nowhere"].startswith("There is no Ray at 127.0.0.1:1 (RAY_ADDRESS)")
    assert found["files"]
    assert found["left"] == ["features.json", "features.npy", "items.parquet"]
    assert found["ray"]  # the caller's own Ray goes on
