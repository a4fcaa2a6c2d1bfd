"""Exports of a run: processor seconds and size.

    python benchmarks/export.py [--rows 100000] [--groups 100] [--width 64] [--formats csv,parquet,...]

The run is made up: random groups, probabilities, and embeddings of `width` numbers for embedding-atlas and projector.
Formats that open pictures get one picture a group, of 64 pixels, under as many names (hard links) as there are items,
so that what is measured is the export, not a disk. Each format runs in a process of its own; `processor_seconds` are
those that it worked, the start of Python and its imports included, whatever else ran on the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from _measure import write_results
from PIL import Image

FILES = {
    "csv": ".csv",
    "lightly": ".csv",
    "parquet": ".parquet",
    "hf-parquet": ".parquet",
    "embedding-atlas": ".parquet",
}
FORMATS = (
    *("csv", "parquet", "cleanlab", "lightly", "fiftyone", "labelstudio", "coco", "imagefolder", "hf", "hf-parquet"),
    *("projector", "embedding-atlas"),
)


def make_run(folder: Path, rows: int, groups: int, width: int) -> None:
    """A finished run over pictures, and the pictures."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, groups, rows)
    p = np.full((rows, groups), 0.3 / (groups - 1), np.float32)
    p[np.arange(rows), labels] = 0.7
    ids = [f"{row // 1000:03}/IMG_{row:06}.png" for row in range(rows)]
    for group in range(groups):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{group}.png")
    for item, label in zip(ids, labels.tolist(), strict=True):
        path = folder / "photos" / item
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / f"{label}.png", path)
    run = folder / "run"
    run.mkdir()
    source = {"n": rows, "kind": "images", "spec": {"kind": "images"}, "path": str(folder / "photos")}
    record = {"status": "done", "source": source, "n_clusters": groups, "stages": [{"name": "cdc"}]}
    (run / "run.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
    embedding = rng.standard_normal((rows, width), dtype=np.float32)
    columns = {"id": pa.array(ids), "label": pa.array(labels.astype(np.int32)), "confidence": pa.array(p.max(axis=1))}
    for name, matrix in (("probabilities", p), ("embedding", embedding)):
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    table = pa.table(columns).replace_schema_metadata({"coterie.heads": "cal", "coterie.k": str(groups)})
    pq.write_table(table, run / "result.parquet")


def measure(folder: Path, name: str) -> dict[str, Any]:
    """Export once, as a user does."""
    out = folder / f"out-{name}{FILES.get(name, '')}"
    command = [sys.executable, "-m", "coterie", "export", str(folder / "run"), "--to", name, "-o", str(out)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{name} failed")
    worked = usage.ru_utime + usage.ru_stime
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    return {
        "format": name,
        "processor_seconds": round(worked, 1),
        "seconds": round(time.perf_counter() - begun, 1),
        "mib_written": round(sum(path.stat().st_size for path in files) / 2**20, 1),
        "files": len(files),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--formats", default=",".join(FORMATS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_run(folder, given.rows, given.groups, given.width)
        measure(folder, "cleanlab")  # the files are in the machine's memory then
        command = f"python benchmarks/export.py --rows {given.rows} --groups {given.groups} --width {given.width}"
        command += f" --formats {given.formats}" if given.formats != ",".join(FORMATS) else ""
        sizes = {"rows": given.rows, "groups": given.groups, "width": given.width}
        found: list[dict[str, Any]] = []
        for name in given.formats.split(","):
            for old in folder.glob("out-*"):
                subprocess.run(["rm", "-rf", str(old)], check=True)
            found.append(measure(folder, name))
            print("  ".join(f"{key} {value}" for key, value in found[-1].items()), flush=True)
            write_results("export", command, **sizes, formats=found)


if __name__ == "__main__":
    main()
