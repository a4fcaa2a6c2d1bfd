"""Parts of one group, by K-means on its members' features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from coterie.algorithms.kmeans import kmeans
from coterie.common.arguments import whole_number
from coterie.types import InputError

LEAST, MOST = 2, 12  # parts
SAMPLE = 2000  # members that the silhouette looks at; it needs all their distances
RESTARTS = 4


def propose_parts(features: NDArray[np.float32], k: int, seed: int) -> tuple[NDArray[np.int64], float]:
    """The part of each member (m,) and the mean silhouette (Rousseeuw 1987), of at most 2,000 members.

    Raises InputError for fewer than 4 members, for k that is not 2 to 12, and for members of fewer distinct features
    than k.
    """
    if len(features) < 4:
        raise InputError(f"A group of {len(features)} is not split: move its items one by one.")
    if not LEAST <= k <= min(MOST, len(features)):
        raise InputError(f"A group of {len(features)} is split in {LEAST} to {min(MOST, len(features))} parts.")
    seed = whole_number(seed, "seed", 0, 2**63 - 1)
    generator = torch.Generator().manual_seed(seed)
    found = kmeans(torch.from_numpy(features), k, generator=generator, restarts=RESTARTS, iterations=100).labels.numpy()
    if len(np.unique(found)) < k:
        raise InputError(f"The members have fewer than {k} different features: split them in fewer parts.")
    return found.astype(np.int64), _silhouette(features, found, seed)


def _silhouette(features: NDArray[np.float32], labels: NDArray[np.integer], seed: int) -> float:
    from sklearn.metrics import silhouette_score

    rows = np.arange(len(labels))
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), SAMPLE, replace=False))
    if not 2 <= len(np.unique(labels[rows])) < len(rows):
        return 0.0
    return float(silhouette_score(features[rows], labels[rows]))
