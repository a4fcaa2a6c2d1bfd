"""Peak memory: a Fashion-MNIST run, and an epoch of views over memory-mapped images, with the growth per image.

    python benchmarks/memory.py [--images 1000000]

Each part runs in a process of its own. The mapped images are random pixels at 32×32×3, written to a temporary folder
(3 GB for a million); the growth per image compares that many with a tenth of them: in the process' own memory, and in
pages of the mapped file, which count as resident as long as nobody else wants the room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _measure import resident, write_results


def epoch_of_views(file: str) -> dict[str, Any]:
    """Read every image of the map once in random order, and make both contrastive views of it."""
    import torch

    from coterie.data import open_source
    from coterie.views import Draw, ViewSettings, make_views

    items = open_source(file).items
    generator, half = torch.Generator().manual_seed(0), torch.full((3,), 0.5)
    opened = resident("RssAnon")
    for index in torch.randperm(len(items), generator=generator).split(256):
        raw = items.take(index)
        make_views(raw, ["contrastive"] * 2, Draw(generator, len(raw)), ViewSettings(), "photo", half, half)
    return {
        "n": len(items),
        "peak_mib": resident("VmHWM"),
        "own_mib_before_the_epoch": opened,
        "own_mib": resident("RssAnon"),
        "mapped_mib": resident("RssFile"),
    }


def fashion_mnist_run(folder: str) -> dict[str, Any]:
    """One epoch of each stage over all 70,000 images, start to result."""
    from coterie.pipeline import run
    from coterie.training.plan import RunSettings

    run("fashion-mnist", RunSettings(10, "cdc", overrides={"moco.epochs": 1, "cdc.epochs": 1}), Path(folder) / "run")
    return {"n": 70_000, "peak_mib": resident("VmHWM")}


def apart(part: str, argument: str) -> dict[str, Any]:
    """Run a part in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--part", part, argument], check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def write_random_images(path: Path, n: int) -> None:
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (n, 32, 32, 3))
    generator = np.random.default_rng(0)
    for start in range(0, n, 10_000):
        images[start : start + 10_000] = generator.integers(0, 256, images[start : start + 10_000].shape, np.uint8)
    images.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        part, argument = given.part
        print(json.dumps({"views": epoch_of_views, "run": fashion_mnist_run}[part](argument)))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for n in (given.images // 10, given.images):
            path = Path(folder) / f"{n}.npy"
            write_random_images(path, n)
            results.append(apart("views", str(path)))
            path.unlink()
            print(results[-1], flush=True)
        more = results[1]["n"] - results[0]["n"]
        grown = {
            f"{kind}_bytes_per_image": round((results[1][f"{kind}_mib"] - results[0][f"{kind}_mib"]) * 2**20 / more, 1)
            for kind in ("own", "mapped")
        }
        run = apart("run", folder)
        print(run)
    command = f"python benchmarks/memory.py --images {given.images}"
    print(write_results("memory", command, views=results, **grown, fashion_mnist=run))


if __name__ == "__main__":
    main()
