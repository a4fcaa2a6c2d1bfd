"""Without labels: what the half-whitened components and the neighbour graph change on embeddings of an encoder.

    python experiments/graph_choice.py FEATURES [FEATURES ...] [-k 10] [--items 10000]

FEATURES: folders of `coterie embed`. For the first `--items` rows of each, as they are (centred, length 1) and as
components: the skewness of how often an item is among the 15 nearest of others (0: nobody is a hub), the share of
neighbours that are mutual, and, of K-means on either and of `spectral`, how far groups agree with the 15 nearest in the
embeddings as they are (Cohen's κ: 0 is chance, 1 all). Writes experiments/results/graph_choice.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _runs import RESULTS
from scipy.stats import skew
from sklearn.cluster import KMeans
from torch import Tensor

from coterie import Clusterer
from coterie.algorithms.neighbours import nearest
from coterie.common.outputs import write_atomically
from coterie.methods.spectral import COMPONENTS
from coterie.networks.components import Components
from coterie.training.device import machine

NEIGHBOURS, STARTS = 15, 10


def of_graph(rows: Tensor) -> dict[str, float]:
    """Hubs and mutual neighbours."""
    _, index = nearest(rows, NEIGHBOURS)
    counts = np.bincount(index.flatten().numpy(), minlength=len(rows))
    theirs = index[index]  # (n, 15, 15): the neighbours of the neighbours
    mutual = (theirs == torch.arange(len(rows))[:, None, None]).any(2).float().mean()
    return {"hubs": round(float(skew(counts)), 2), "mutual": round(float(mutual), 3)}


def agreement(index: Tensor, groups: np.ndarray, k: int) -> float:
    """κ of an item's group with those of its neighbours."""
    labels = torch.from_numpy(groups.astype(np.int64))
    hit = float((labels[index] == labels[:, None]).float().mean())
    chance = float((labels.bincount(minlength=k) / len(labels)).square().sum())
    return round((hit - chance) / (1 - chance), 3)


def record(folder: Path, k: int, items: int) -> dict[str, Any]:
    values = torch.from_numpy(np.load(folder / "features.npy", mmap_mode="r")[:items].astype(np.float32))
    plain = torch.nn.functional.normalize(values - values.mean(0), dim=1)
    components = Components(values.shape[1], COMPONENTS)
    components.place(values)
    reduced = components(values)
    _, index = nearest(values, NEIGHBOURS, metric="cosine")
    found: dict[str, Any] = {"data": folder.resolve().parent.name if folder.name == "features" else folder.name}
    for name, rows in (("as they are", plain), ("components", reduced)):
        groups = KMeans(k, n_init=STARTS, random_state=0).fit_predict(rows.numpy())
        found[name] = {**of_graph(rows), "kmeans": agreement(index, groups, k)}
    found["spectral"] = agreement(index, Clusterer(k, "spectral", random_state=0).fit_predict(values.numpy()), k)
    print(found, flush=True)
    return {"n": len(values), "k": k, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path, nargs="+")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--items", type=int, default=10_000)
    given = parser.parse_args()
    records = [record(folder, given.k, given.items) for folder in given.features]
    command = f"python experiments/graph_choice.py FEATURES -k {given.k} --items {given.items}"
    content = {"command": command, "machine": machine(), "records": records}
    write_atomically(RESULTS / "graph_choice.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
