"""Our DEC, IDEC, VaDE and DCN beside ClustPy's: the same net, data, batch size and epochs, in one run.

    pip install clustpy
    python benchmarks/beside_clustpy.py --seeds 0 1 2

10,000 images of Fashion-MNIST, flattened, in [0, 1]; d-500-500-2000-10 and back; batches of 256; no augmentation; the
same number of epochs of reconstruction and of clustering. ClustPy's other settings are its own defaults, ours those of
the practical preset. Seconds an iteration are those of the clustering stage alone: ClustPy's is begun with a trained
net, and what it takes before its first epoch (K-means or a mixture on the codes) is measured by a fit of no epoch and
taken off; so is ours. ACC after Hungarian matching. Libraries take turns, so that a slow moment hits both.

ClustPy (BSD 3-clause) is no dependency of coterie. Let nothing else run beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import write_results

from coterie.data import labels_of, open_source
from coterie.evaluation import accuracy
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.training.history import read_history
from coterie.training.plan import RunSettings

K, BATCH = 10, 256
METHODS = ("dec", "idec", "dcn", "vade")
STILL = {"views.shift": 0.0, "views.turn": 0.0}


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 28, 28) bytes and their labels, drawn by a fixed seed."""
    source = open_source("fashion-mnist")
    labels = labels_of("fashion-mnist", source.ids)
    assert labels is not None
    rows = np.sort(np.random.default_rng(0).choice(len(source.items), count, replace=False))
    return source.items.take(torch.from_numpy(rows)).squeeze(1).numpy(), labels.codes[rows]


class Ours:
    """One seed of coterie: phase 1 once for all methods."""

    name = "coterie"

    def __init__(self, x: np.ndarray, seed: int, pretrain: int, epochs: int, folder: Path) -> None:
        self.x, self.seed, self.epochs, self.folder = x, seed, epochs, folder
        run(x, self.settings("ae", pretrain), folder / "ae")

    def settings(self, method: str, epochs: int, **more: Any) -> RunSettings:
        fixed = {f"{method}.batch_size": BATCH, f"{method}.epochs": epochs} | STILL
        return RunSettings(K, method, seed=self.seed, device="cpu", overrides=fixed | more, calibrate=False)

    def fit(self, method: str) -> tuple[np.ndarray, float]:
        """Labels, and seconds an iteration."""
        never = {} if method in ("dcn", "vade") else {f"{method}.tolerance": 0.0}  # run on when few labels change
        settings = replace(self.settings(method, self.epochs, **never), init=str(self.folder / "ae"))
        run(self.x, settings, self.folder / method)
        history = read_history(self.folder / method / "history.jsonl").records
        taken = [record.seconds for record in history if record.stage == method]
        labels = next(iter(read_result(self.folder / method / "result.parquet").heads.values())).argmax(1)
        return np.asarray(labels), sum(taken) / (len(taken) * -(-len(self.x) // BATCH))


class Theirs:
    """One seed of ClustPy: one trained auto-encoder for DEC, IDEC and DCN, a variational one for VaDE."""

    name = "ClustPy"

    def __init__(self, x: np.ndarray, seed: int, pretrain: int, epochs: int) -> None:
        from clustpy import deep

        self.x, self.seed, self.epochs = x.reshape(len(x), -1).astype(np.float32) / 255, seed, epochs
        self.classes = {"dec": deep.DEC, "idec": deep.IDEC, "dcn": deep.DCN, "vade": deep.VaDE}
        plain = self.timed("dec", 0, pretrain_epochs=pretrain)[0].neural_network_trained_
        variational = self.timed("vade", 0, pretrain_epochs=pretrain)[0].neural_network_trained_
        self.nets = {method: variational if method == "vade" else plain for method in METHODS}

    def timed(self, method: str, epochs: int, **more: Any) -> tuple[Any, float]:
        model = self.classes[method](K, batch_size=BATCH, clustering_epochs=epochs, random_state=self.seed, **more)
        begun = time.perf_counter()
        model.fit(self.x)
        return model, time.perf_counter() - begun

    def fit(self, method: str) -> tuple[np.ndarray, float]:
        """Labels, and seconds an iteration."""
        _, before = self.timed(method, 0, neural_network=self.nets[method])
        model, whole = self.timed(method, self.epochs, neural_network=self.nets[method])
        return model.labels_, (whole - before) / (self.epochs * -(-len(self.x) // BATCH))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--pretrain", type=int, default=40, help="epochs of reconstruction")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of clustering")
    given = parser.parse_args()
    x, codes = images(given.items)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for done, seed in enumerate(given.seeds, start=1):
        with tempfile.TemporaryDirectory() as folder:
            sides = [
                Ours(x, seed, given.pretrain, given.epochs, Path(folder)),
                Theirs(x, seed, given.pretrain, given.epochs),
            ]
            for method in METHODS:
                for side in sides:
                    labels, step = side.fit(method)
                    into = found.setdefault(method, {}).setdefault(side.name, {"acc": [], "step_seconds": []})
                    into["acc"].append(round(float(accuracy(codes, labels)), 4))
                    into["step_seconds"].append(round(step, 5))
                    print(seed, method, side.name, {key: values[-1] for key, values in into.items()}, flush=True)
        # After every seed, so that a run that is cut off has told something.
        words = ["python benchmarks/beside_clustpy.py --seeds", *map(str, given.seeds[:done])]
        words += ["--items", str(given.items), "--pretrain", str(given.pretrain), "--epochs", str(given.epochs)]
        content = {"clustpy": version("clustpy"), "methods": {name: compared(of) for name, of in found.items()}}
        print(write_results("beside_clustpy", " ".join(words), **content))


def compared(of_method: dict[str, Any]) -> dict[str, Any]:
    """With how many times faster our step is, by the medians."""
    ours, theirs = (statistics.median(of_method[side.name]["step_seconds"]) for side in (Ours, Theirs))
    return {**of_method, "times_faster": round(theirs / ours, 2)}


if __name__ == "__main__":
    main()
