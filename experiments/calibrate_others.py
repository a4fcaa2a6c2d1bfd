"""Calibration of clusterings that coterie did not make: calibration error before and after `coterie.calibrate`.

    python experiments/calibrate_others.py fashion-mnist -k 10 --init runs/moco --seeds 0 1 2 --runs runs/calibrate

Clusters the features of a finished run with scikit-learn: K-means (labels), a Gaussian mixture (probabilities), and
spectral clustering of 2,000 landmarks, whose labels the other items take from the nearest landmark. With --init of an
auto-encoder's run the first row is AE + K-means. Then every --losses calibrates each of them without labels, and
temperature scaling with true labels stands beside them as an oracle.

A row is one JSON file below --runs, written whole; a row that is there is not made again, so the command may be killed
and given again. Writes experiments/results/calibrate_others_<name>.json and a table, calibrate_others_<name>.md.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _runs import RESULTS, given_seed
from numpy.typing import NDArray

from coterie import calibrate
from coterie.common.outputs import write_atomically
from coterie.data import Labels, labels_of, open_source
from coterie.evaluation import evaluate
from coterie.evaluation.oracle import at_temperature, oracle_temperature
from coterie.networks.features import extract_features
from coterie.networks.heads import standardise_rows
from coterie.prediction.model import load_model
from coterie.training.device import machine
from coterie.types import InputError

METRICS = ("acc", "nmi", "ari", "ece", "ece_adaptive", "ece_debiased", "confidence", "auroc", "aurc")
LANDMARKS = 2000
COMPONENTS = 32  # principal components that a Gaussian mixture with full covariances sees

Rows = NDArray[np.float32]


def kmeans(x: Rows, k: int, seed: int) -> Rows:
    from sklearn.cluster import KMeans

    return one_hot(KMeans(k, n_init=10, random_state=seed).fit_predict(x), k)


def gmm(x: Rows, k: int, seed: int) -> Rows:
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    reduced = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit_transform(x).astype(np.float64)
    mixture = GaussianMixture(k, n_init=3, reg_covar=1e-4 * float(reduced.var(0).mean()), random_state=seed)
    p: Rows = mixture.fit(reduced).predict_proba(reduced).astype(np.float32)
    return p


def spectral(x: Rows, k: int, seed: int) -> Rows:
    from sklearn.cluster import SpectralClustering
    from sklearn.neighbors import KNeighborsClassifier

    landmarks = np.random.default_rng(seed).choice(len(x), min(LANDMARKS, len(x)), replace=False)
    graph = SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=20, random_state=seed)
    labels = graph.fit_predict(x[landmarks])
    return one_hot(KNeighborsClassifier(1).fit(x[landmarks], labels).predict(x), k)


METHODS: dict[str, Callable[[Rows, int, int], Rows]] = {"kmeans": kmeans, "gmm": gmm, "spectral": spectral}


def one_hot(labels: NDArray[Any], k: int) -> Rows:
    hot: Rows = np.eye(k, dtype=np.float32)[labels]
    return hot


def features_of(source: str, init: Path, file: Path) -> tuple[Rows, Labels]:
    """Row-standardised features of the run's backbone, from `file` where they are there already; and the labels."""
    model = load_model(init)
    opened = open_source(source, like=model.spec)
    labels = labels_of(source, opened.ids)
    if labels is None:
        raise InputError(f"{source} carries no labels, without which there is nothing to measure.")
    if not file.exists():
        buffer = io.BytesIO()
        np.save(buffer, standardise_rows(extract_features(model.net, opened.items)).numpy(), allow_pickle=False)
        write_atomically(file, buffer.getvalue())
    return np.load(file, mmap_mode="r"), labels


def measured(labels: Labels, p: NDArray[np.floating]) -> dict[str, Any]:
    numbers = evaluate(labels.codes, p, class_names=labels.names)
    return {name: numbers[name] for name in METRICS}


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A record from its file, or made and written whole."""
    if not path.exists():
        write_atomically(path, json.dumps(make(), indent=1) + "\n")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def row(name: str, seed: int, x: Rows, labels: Labels, given: argparse.Namespace) -> dict[str, Any]:
    """One clustering with one seed: its numbers as it is, calibrated by every loss, and by the oracle."""
    folder: Path = given.runs
    clustering = folder / f"{name}-{seed}.npy"

    def cluster() -> dict[str, Any]:
        begun = time.monotonic()
        p = METHODS[name](np.asarray(x), given.k, seed)
        seconds = time.monotonic() - begun
        buffer = io.BytesIO()
        np.save(buffer, p, allow_pickle=False)
        write_atomically(clustering, buffer.getvalue())
        ideal = at_temperature(p, oracle_temperature(labels.codes, p))
        return {"seconds": round(seconds, 1), "before": measured(labels, p), "oracle": measured(labels, ideal)}

    record = kept(folder / f"{name}-{seed}.json", cluster)
    after: dict[str, Any] = {}
    for loss in given.losses:

        def calibrated(loss: str = loss) -> dict[str, Any]:
            begun = time.monotonic()
            found = calibrate(x, np.load(clustering), loss=loss, random_state=seed, device="cpu")
            seconds = round(time.monotonic() - begun, 1)
            return {"seconds": seconds, **measured(labels, found.probabilities)}

        after[loss] = kept(folder / f"{name}-{seed}-{loss}.json", calibrated)
        print(name, seed, loss, f"ECE {record['before']['ece']:.3f} -> {after[loss]['ece']:.3f}", flush=True)
    first = after[given.losses[0]]
    metrics = {key: first[key] for key in METRICS}
    about = {"data": given.name or given.source, "method": name, "n": len(x), "k": given.k, "seed": seed, "skipped": 0}
    return {**about, "seconds": record["seconds"], "metrics": metrics, **record, "after": after}


def table(records: list[dict[str, Any]], losses: list[str]) -> str:
    """Mean ± standard deviation over seeds, a line for each clustering."""
    lines = ["| clustering | seeds | ACC | ECE before | " + " | ".join(f"ECE {loss}" for loss in losses)]
    lines[0] += " | ACC after | oracle temperature (uses labels) |"
    lines.append("|---" * lines[0].count(" |") + "|")
    for method in dict.fromkeys(record["method"] for record in records):
        own = [record for record in records if record["method"] == method]
        columns = [[r["before"]["acc"] for r in own], [r["before"]["ece"] for r in own]]
        columns += [[r["after"][loss]["ece"] for r in own] for loss in losses]
        columns += [[r["after"][losses[0]]["acc"] for r in own], [r["oracle"]["ece"] for r in own]]
        cells = [f"{np.mean(c):.3f} ± {np.std(c, ddof=min(1, len(c) - 1)):.3f}" for c in columns]
        lines.append(f"| {method} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("-k", type=int, required=True)
    parser.add_argument("--init", type=Path, required=True, help="run folder whose backbone gives the features")
    parser.add_argument("--name")
    parser.add_argument("--seeds", type=given_seed, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--losses", nargs="+", default=["region", "smoothing", "focal", "l1", "mixup"])
    parser.add_argument("--runs", type=Path, default=Path("runs/calibrate"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    name = given.name or given.source
    x, labels = features_of(given.source, given.init, given.runs / "features.npy")
    records: list[dict[str, Any]] = []
    words = [f"python experiments/calibrate_others.py {given.source} -k {given.k} --init RUN"]
    words += ["--name", given.name] if given.name else []
    words += ["--methods", *given.methods, "--losses", *given.losses]
    for seed in given.seeds:
        records += [row(method, seed, x, labels, given) for method in given.methods]
        command = " ".join([*words, "--seeds", *map(str, given.seeds)])
        content = {"command": command, "machine": machine(), "records": records}
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / f"calibrate_others_{name}.json").write_text(
            json.dumps(content, indent=1) + "\n", encoding="utf-8"
        )
        (given.results / f"calibrate_others_{name}.md").write_text(table(records, given.losses))


if __name__ == "__main__":
    main()
