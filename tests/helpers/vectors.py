"""Embeddings in groups, for whole runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def groups_of_vectors(
    n: int = 90, d: int = 70, *, k: int = 3, apart: float = 2.0, noise: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors (n, d) around k random centres, and the group of each; row i is of group i modulo k."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % k
    return (apart * rng.normal(size=(k, d))[truth] + noise * rng.normal(size=(n, d))).astype(np.float32), truth
