"""Which method for embeddings of few numbers? CDC, spectral clustering and K-means on made groups, which are known.

    python experiments/short_embeddings.py

Mixtures of Gaussians of deviation 1: 3 and 8 groups in 2, 10 and 50 dimensions, their nearest centres so many
deviations apart in the mean (8: apart, 5: they touch, 3.5: they overlap), of equal size or each of half (8 groups:
three quarters) the size of the one before; and rings and moons. Each method with its defaults, seed 0. Nothing here
has a label. Writes experiments/results/short_embeddings.json.
"""

from __future__ import annotations

import json
import time
import warnings
from typing import Any

import numpy as np
from _runs import RESULTS
from numpy.typing import NDArray
from sklearn.datasets import make_circles, make_moons
from sklearn.metrics import adjusted_rand_score

from coterie import Clusterer
from coterie.common.outputs import write_atomically
from coterie.evaluation import accuracy, calibration_error, match
from coterie.training.device import machine

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

DIMENSIONS, GROUPS = (2, 10, 50), {3: 0.5, 8: 0.75}  # number of groups -> size of each by that of the one before
DISTANCES = {"apart": 8.0, "touching": 5.0, "overlapping": 3.5}
METHODS = ("cdc", "spectral", "kmeans")
N = 1500


def mixture(dim: int, k: int, distance: float, ratio: float) -> tuple[Floats, Ints]:
    """Round Gaussians of deviation 1; the distance from a centre to the nearest other is `distance` in the mean."""
    rng = np.random.default_rng([dim, k, round(10 * distance), round(100 * ratio)])
    centres = rng.normal(size=(k, dim))
    between = np.linalg.norm(centres[:, None] - centres, axis=2) + np.diag(np.full(k, np.inf))
    shares = ratio ** np.arange(k)
    truth = rng.choice(k, N, p=shares / shares.sum())
    points = centres[truth] * distance / between.min(1).mean() + rng.normal(size=(N, dim))
    return points.astype(np.float32), truth.astype(np.int64)


def made() -> list[tuple[str, str, Floats, Ints]]:
    """Kind, name, points and true groups."""
    found = []
    for kind, distance in DISTANCES.items():
        for k, unequal in GROUPS.items():
            for sizes, ratio in (("equal", 1.0), ("unequal", unequal)):
                for dim in DIMENSIONS:
                    points, truth = mixture(dim, k, distance, ratio)
                    found.append((f"{kind}, {sizes} sizes", f"{k} groups, {dim} dimensions", points, truth))
    for name, (points, truth) in {
        "rings": make_circles(N, factor=0.4, noise=0.05, random_state=0),
        "moons": make_moons(N, noise=0.07, random_state=0),
    }.items():
        found.append(("rings and moons", name, points.astype(np.float32), truth.astype(np.int64)))
    return found


def measure(method: str, points: Floats, truth: Ints) -> dict[str, Any]:
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of sizes, and of groups that K-means finds
        model = Clusterer(int(truth.max()) + 1, method=method, random_state=0, device="cpu").fit(points)
    seconds = time.perf_counter() - begun
    right = match(truth, model.labels_).correct(truth, model.labels_)
    return {
        "acc": round(float(accuracy(truth, model.labels_)), 4),
        "ari": round(float(adjusted_rand_score(truth, model.labels_)), 4),
        "ece": round(float(calibration_error(model.confidence_, right)), 4),
        "confidence": round(float(model.confidence_.mean()), 4),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    rows = []
    for kind, name, points, truth in made():
        found = {method: measure(method, points, truth) for method in METHODS}
        print(kind, name, {method: (one["acc"], one["ece"]) for method, one in found.items()}, flush=True)
        rows.append({"kind": kind, "data": name, **found})
    content = {"command": "python experiments/short_embeddings.py", "machine": machine(), "records": rows}
    write_atomically(RESULTS / "short_embeddings.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
