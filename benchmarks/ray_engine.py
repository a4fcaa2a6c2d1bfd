"""`coterie predict --engine ray` beside the local engine: equal tables, also when workers are killed; seconds, memory.

    python benchmarks/ray_engine.py [--embeddings 200000] [--pictures 20000] [--kills 5]

Embeddings (384 numbers) lie in a .npy file, pictures (Fashion-MNIST, if it is here, else made) in a folder of PNG
files. Each process of either engine has one thread; two workers of Ray on this machine. A worker is killed with
kill -9 at random moments of one more run, as often as `--kills` says. Memory is that of the whole tree of processes, by
its proportional share of pages (PSS), looked at five times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from _measure import write_results
from PIL import Image

DIM, GROUPS = 384, 10
WORKER = "ray::MapWorker"  # as Ray names the processes of an actor pool


@dataclass
class Watch:
    """What a command and its processes take, and the workers that were killed in it."""

    seconds: float = 0.0
    peak: int = 0  # bytes
    killed_after: list[float] = field(default_factory=list)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "coterie", *arguments]


def watched(arguments: list[str], kills: int = 0, length: float = 0.0, seed: int = 0) -> Watch:
    """Run a command; kill so many of its workers at random moments of the seconds that it is expected to take."""
    moments = sorted(random.Random(seed).uniform(0.3, 0.9) * length for _ in range(kills))
    watch, begun = Watch(), time.monotonic()
    process = subprocess.Popen(
        arguments, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    reader: list[bytes] = []
    assert process.stderr is not None
    reading = threading.Thread(target=lambda: reader.append(process.stderr.read()))  # type: ignore[union-attr]
    reading.start()
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        family = family_of(tree)
        watch.peak = max(watch.peak, sum(map(share_of_memory, family)))
        now = time.monotonic() - begun
        workers = [one for one in family if name_of(one).startswith(WORKER)]
        if moments and now >= moments[0] and workers:
            victim = random.Random(seed + len(moments)).choice(workers)
            victim.kill()
            watch.killed_after.append(round(now, 1))
            moments.pop(0)
        time.sleep(0.2)
    watch.seconds = round(time.monotonic() - begun, 1)
    reading.join()
    assert process.returncode == 0, reader[0].decode()[-2000:]
    return watch


def family_of(tree: psutil.Process) -> list[psutil.Process]:
    try:
        return [tree, *tree.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def share_of_memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def embeddings(folder: Path, count: int) -> tuple[Path, Path]:
    """Embeddings around ten centres, and a run that K-means made of 5,000 of them."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(GROUPS, DIM))
    rows = np.empty((count, DIM), np.float32)
    for start in range(0, count, 10_000):
        part = slice(start, min(count, start + 10_000))
        groups = rng.integers(0, GROUPS, part.stop - part.start)
        rows[part] = centres[groups] + rng.normal(size=(len(groups), DIM))
    np.save(folder / "rows.npy", rows)
    np.save(folder / "some.npy", rows[:5000])
    fit(folder / "some.npy", folder / "of-rows", "--epochs", "2")
    return folder / "rows.npy", folder / "of-rows"


def pictures(folder: Path, count: int) -> tuple[Path, Path, str]:
    """A folder of PNG files, a run that was trained on 1,000 of them, and what they are."""
    from coterie.data import open_source
    from coterie.types import InputError

    what = "fashion-mnist"
    try:
        import torch

        pixels = open_source(what).items.take(torch.arange(count))[:, 0].numpy()
    except InputError:
        what = "random pictures"
        pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for row, image in enumerate(pixels):
        place = folder / "pictures" / f"{row // 1000:03d}" / f"{row:06d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place, compress_level=1)
    np.save(folder / "some-pictures.npy", pixels[:1000])
    fit(folder / "some-pictures.npy", folder / "of-pictures", "--backbone", "small-16", "--set", "moco.epochs=1",
        "--epochs", "1")  # fmt: skip
    return folder / "pictures", folder / "of-pictures", what


def fit(source: Path, run: Path, *options: str) -> None:
    subprocess.run(
        command("fit", str(source), "-k", str(GROUPS), "-o", str(run), "--device", "cpu", "-q", *options),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def compared(folder: Path, source: Path, run: Path, kills: int) -> dict[str, Any]:
    """One source by both engines, and by Ray with workers that are killed."""

    def predict(name: str, *options: str) -> list[str]:
        return command("predict", str(run), str(source), "-o", str(folder / f"{name}.parquet"), "--device", "cpu", "-q",
                       *options)  # fmt: skip

    two = ("--engine", "ray", "--workers", "2")
    local = watched(predict("local"))
    ray = watched(predict("ray", *two))
    hit = watched(predict("hit", *two), kills, ray.seconds)
    tables = [pq.read_table(folder / f"{name}.parquet") for name in ("local", "ray", "hit")]
    found = {
        "n": len(tables[0]),
        "columns": tables[0].column_names,
        "equal": tables[1].equals(tables[0]) and tables[1].schema.metadata == tables[0].schema.metadata,
        "equal_after_kills": tables[2].equals(tables[0]),
        "killed_after_seconds": hit.killed_after,
        "seconds": {"local": local.seconds, "ray": ray.seconds, "ray, with kills": hit.seconds},
        "peak_megabytes": {"local": round(local.peak / 1e6), "ray": round(ray.peak / 1e6)},
    }
    print(json.dumps(found))
    for name in ("local", "ray", "hit"):
        (folder / f"{name}.parquet").unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", type=int, default=200_000)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5)
    asked = parser.parse_args()
    import ray

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, of_rows = embeddings(folder, asked.embeddings)
        first = compared(folder, rows, of_rows, asked.kills)
        rows.unlink()
        place, of_pictures, what = pictures(folder, asked.pictures)
        second = compared(folder, place, of_pictures, asked.kills)
    said = f"python benchmarks/ray_engine.py --embeddings {asked.embeddings} --pictures {asked.pictures}"
    results = {"embeddings": {"dim": DIM, **first}, "pictures": {"what": what, **second}}
    print(write_results("ray_engine", f"{said} --kills {asked.kills}", ray=ray.__version__, workers=2, **results))


if __name__ == "__main__":
    main()
