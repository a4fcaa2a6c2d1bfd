"""Methods that train nothing, beside the library that one would take instead: seconds, memory, ARI, and their growth.

    pip install finch-clust faiss-cpu                        # else their rows say "not run"
    python benchmarks/untrained.py [--items 10000 100000] [--limit 900]

The made embeddings of heads.py, 384 features in 50 groups. Each contender groups them in a process of its own that may
take `--memory` GB; ours by its practical preset and without the calibration head, but with the confidences that it has.
scikit-learn's and faiss' K-means have ten starts as ours has, its spectral clustering 25 near neighbours as ours; NMF
of both sees the values less their smallest. ARI is against the groups that were made. The seconds are those after data
and libraries are there; `peak_gb` is of the whole process. What was stopped by the limit says so. Numbers of an earlier
call are kept; --again measures anew. Writes benchmarks/results/untrained.json after each contender.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _measure import RESULTS, in_a_process, write_results
from heads import DIM, GROUPS, made

STARTS, NEIGHBOURS = 10, 25
Rows = np.ndarray


def ours(method: str, **settings: object) -> Callable[[Rows], Callable[[], Rows]]:
    def prepared(rows: Rows) -> Callable[[], Rows]:
        from coterie.pipeline import run
        from coterie.training.plan import RunSettings

        asked = RunSettings(GROUPS, method, device="cpu", calibrate=False, overrides=settings)
        return lambda: run(rows, asked).assignments.probabilities.argmax(1).numpy()

    return prepared


def sklearn_kmeans(rows: Rows) -> Callable[[], Rows]:
    from sklearn.cluster import KMeans

    return lambda: KMeans(GROUPS, n_init=STARTS, random_state=0).fit_predict(rows)


def faiss_kmeans(rows: Rows) -> Callable[[], Rows]:
    import faiss

    def grouped() -> Rows:
        model = faiss.Kmeans(rows.shape[1], GROUPS, nredo=STARTS, seed=1, max_points_per_centroid=len(rows))
        model.train(rows)
        return model.index.search(rows, 1)[1][:, 0]

    return grouped


def sklearn_mixture(rows: Rows) -> Callable[[], Rows]:
    from sklearn.mixture import GaussianMixture

    return lambda: GaussianMixture(GROUPS, covariance_type="spherical", random_state=0).fit_predict(rows)


def sklearn_spectral(rows: Rows) -> Callable[[], Rows]:
    from sklearn.cluster import SpectralClustering

    options: dict[str, Any] = {"affinity": "nearest_neighbors", "n_neighbors": NEIGHBOURS, "random_state": 0}
    return lambda: SpectralClustering(GROUPS, **options).fit_predict(rows)


def sklearn_ward(rows: Rows) -> Callable[[], Rows]:
    from sklearn.cluster import AgglomerativeClustering

    return lambda: AgglomerativeClustering(GROUPS).fit_predict(rows)


def sklearn_nmf(rows: Rows) -> Callable[[], Rows]:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import NMF

    def grouped() -> Rows:
        factors = NMF(GROUPS, init="nndsvda", random_state=0).fit_transform(rows - rows.min())
        return KMeans(GROUPS, n_init=STARTS, random_state=0).fit_predict(factors)

    return grouped


def finch_clust(rows: Rows) -> Callable[[], Rows]:
    from finch import FINCH

    return lambda: FINCH(rows, req_clust=GROUPS, verbose=False)[2]


CONTENDERS: dict[str, Callable[[Rows], Callable[[], Rows]]] = {
    "kmeans": ours("kmeans"),
    "scikit-learn KMeans": sklearn_kmeans,
    "faiss Kmeans": faiss_kmeans,
    "vmf": ours("vmf"),
    "scikit-learn GaussianMixture, spherical": sklearn_mixture,
    "spectral": ours("spectral"),
    "scikit-learn SpectralClustering": sklearn_spectral,
    "agglomerative": ours("agglomerative"),
    "agglomerative, mutual": ours("agglomerative", **{"agglomerative.linkage": "mutual"}),
    "scikit-learn AgglomerativeClustering (Ward)": sklearn_ward,
    "nmf": ours("nmf"),
    "scikit-learn NMF and KMeans": sklearn_nmf,
    "finch": ours("finch"),
    "finch-clust": finch_clust,
}


def measure(name: str, n: int) -> dict[str, Any]:
    """One contender in this process."""
    from sklearn.metrics import adjusted_rand_score

    rows, truth = made(n)
    if name == "nmf":
        rows = rows - rows.min()
    grouped = CONTENDERS[name](rows)
    begun, used = time.perf_counter(), time.process_time()
    labels = grouped()
    spent = {"seconds": round(time.perf_counter() - begun, 1), "cpu_seconds": round(time.process_time() - used, 1)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {**spent, "peak_gb": round(peak / 2**30, 2), "ari": round(float(adjusted_rand_score(truth, labels)), 3)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    options.add_argument("--limit", type=float, default=900.0, help="seconds for each")
    options.add_argument("--memory", type=float, default=16.0, help="GB for each")
    options.add_argument("--again", action="store_true", help="measure anew what is there")
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]))))
        return
    path = RESULTS / "untrained.json"
    sizes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["sizes"] if path.is_file() else {}
    for n in given.items:
        for name in CONTENDERS:
            found = sizes.setdefault(str(n), {})
            if name in found and not given.again:
                continue
            found[name] = in_a_process(__file__, [name, str(n)], given.limit, given.memory)
            print(n, name, found[name], flush=True)
            limits = {"limit_seconds": given.limit, "limit_gb": given.memory}
            write_results("untrained", "python benchmarks/untrained.py", dim=DIM, groups=GROUPS, **limits, sizes=sizes)


if __name__ == "__main__":
    main()
