"""K-means beside scikit-learn's and, where a checkout is given, beside that of CDC's authors: seconds and inertia.

    python benchmarks/kmeans.py [--authors PATH]

PATH is a checkout of github.com/ChengJianH/CDC; its K-means is imported from there and run as CDC runs it, with ten
restarts. Inertia is computed from the labels in the same way for all. Data: `features` are non-negative and in ten
groups, every row summing to 1, as CDC clusters them; `gaussian` have no groups at all.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _measure import seconds, write_results
from sklearn.cluster import KMeans
from torch import Tensor

from coterie.algorithms.kmeans import kmeans

SIZES = ((1000, 500, 512), (1000, 100, 128), (1000, 1000, 512))  # points, clusters, features
SEEDS = range(5)


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def features(n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    middles = torch.randn(10, d, generator=generator)
    group = torch.randint(10, (n,), generator=generator)
    x = (middles[group] + torch.randn(n, d, generator=generator)).relu()
    return x / x.sum(dim=1, keepdim=True)


def inertia_of(x: Tensor, labels: Tensor, k: int) -> float:
    """Sum of squared distances to the mean of one's own cluster, in float64."""
    x, labels = x.double(), labels.long()
    sums = torch.zeros(k, x.shape[1], dtype=x.dtype).index_add_(0, labels, x)
    means = sums / labels.bincount(minlength=k).clamp(min=1)[:, None]
    return float((x - means[labels]).square().sum())


def authors_kmeans(checkout: Path) -> Callable[[Tensor, int], Tensor]:
    """Import only the K-means of the checkout: its package also asks for packages that K-means does not use."""
    folder = checkout / "cdc" / "utils" / "torch_clustering"
    package = types.ModuleType("torch_clustering")
    package.__path__ = [str(folder)]
    sys.modules["torch_clustering"] = package
    found = importlib.import_module("torch_clustering.kmeans.kmeans").PyTorchKMeans

    def run(x: Tensor, k: int) -> Tensor:
        return found(n_clusters=k, n_init=10, max_iter=300, random_state=0, verbose=False).fit_predict(x)

    return run


def contestants(seed: int, authors: Callable[[Tensor, int], Tensor] | None) -> dict[str, Callable[..., Tensor]]:
    def ours(restarts: int) -> Callable[[Tensor, int], Tensor]:
        return lambda x, k: kmeans(x, k, generator=torch.Generator().manual_seed(seed), restarts=restarts).labels

    def theirs(x: Tensor, k: int) -> Tensor:
        return torch.as_tensor(KMeans(k, n_init=1, random_state=seed).fit(x.numpy()).labels_)

    found: dict[str, Callable[..., Tensor]] = {"coterie": ours(1), "coterie-10": ours(10), "scikit-learn": theirs}
    return found | ({"authors-10": authors} if authors else {})


def measure(
    data: str, n: int, k: int, d: int, seed: int, authors: Callable[..., Tensor] | None
) -> list[dict[str, Any]]:
    """Return one record for each contestant on one data set."""
    x = {"features": features, "gaussian": gaussian}[data](n, d, seed)
    methods = contestants(seed, authors)
    labels: dict[str, Tensor] = {}

    def run(name: str) -> Callable[[], None]:
        return lambda: labels.__setitem__(name, methods[name](x, k))

    times = seconds([run(name) for name in methods], repeats=1, warm_up=0)  # the seeds are the repeats
    return [
        {"data": data, "n": n, "k": k, "d": d, "seed": seed, "method": name}
        | {"seconds": round(time, 5), "inertia": inertia_of(x, labels[name], k)}
        for name, time in zip(methods, times, strict=True)
    ]


def summarise(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Median seconds and mean inertia over the seeds of one size, and the ratios that we promise."""
    names = list(dict.fromkeys(record["method"] for record in records))

    def column(name: str, key: str) -> list[float]:
        return [record[key] for record in records if record["method"] == name]

    time = {name: statistics.median(column(name, "seconds")) for name in names}
    inertia = {name: statistics.mean(column(name, "inertia")) for name in names}
    summary = {key: records[0][key] for key in ("data", "n", "k", "d")} | {"seconds": time}
    summary["times_faster_than_scikit_learn"] = round(time["scikit-learn"] / time["coterie"], 2)
    if "authors-10" in names:
        summary["times_faster_than_authors_one_restart"] = round(time["authors-10"] / time["coterie"], 2)
        summary["times_faster_than_authors_ten_restarts"] = round(time["authors-10"] / time["coterie-10"], 2)
    # With as many clusters as points every inertia is 0.
    if inertia["scikit-learn"] > 0:
        summary["inertia_to_scikit_learn"] = {
            name: round(value / inertia["scikit-learn"], 4) for name, value in inertia.items()
        }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, help="checkout of the CDC authors' repository")
    checkout = parser.parse_args().authors
    authors = authors_kmeans(checkout) if checkout else None
    measure("gaussian", 500, 200, 128, seed=0, authors=authors)  # warms up
    records, summaries = [], []
    for data in ("features", "gaussian"):
        for n, k, d in SIZES:
            # The authors' takes minutes over all of this, so it runs only on what CDC clusters, with fewer clusters.
            beside = authors if data == "features" and k < n else None
            of_size = [record for seed in SEEDS for record in measure(data, n, k, d, seed, beside)]
            records += of_size
            summaries.append(summarise(of_size))
            print(summaries[-1], flush=True)
    command = "python benchmarks/kmeans.py" + (" --authors PATH" if authors else "")
    print(write_results("kmeans", command, summary=summaries, records=records))


if __name__ == "__main__":
    main()
