"""From self-expression to groups: the coefficients that express items by one another show which lie in one subspace.

The post-processing of deep subspace clustering (Ji, Zhang, Li, Salzmann and Reid, "Deep Subspace Clustering Networks",
NIPS 2017; `post_proC` in their and PSSC's code).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

DENSE = 500  # items up to which all singular vectors are computed
LINK = 1e-9  # affinity of items that have none, as a share of the largest: so every graph is connected


def largest_entries(coefficients: Float[Tensor, "n n"], share: float) -> Float[Tensor, "n n"]:
    """Of each column, the largest absolute entries up to the one that brings their sum above this share of the whole.

    With 0.12, a column (6, 3, -1) keeps (6, 0, 0).
    """
    size, order = coefficients.abs().sort(dim=0, descending=True, stable=True)
    before = size.cumsum(0) - size
    kept = before <= share * size.sum(0)
    return coefficients * torch.zeros_like(kept).scatter(0, order, kept)


def subspace_affinity(
    coefficients: Float[Tensor, "n n"], k: int, share: float, dimension: int, power: float
) -> Float[Tensor, "n n"]:
    """How likely two items lie in one subspace, 0 to 1: cosines in the leading singular vectors, to that power.

    Of the symmetric largest entries, min(dimension · k + 1, n - 1) vectors, each times the root of its singular value.
    """
    largest = largest_entries(coefficients, share)
    symmetric = ((largest + largest.T) / 2).double().cpu().numpy()
    n = len(symmetric)
    count = min(dimension * k + 1, n - 1)
    if n <= DENSE:
        u, s, _ = np.linalg.svd(symmetric)
        u, s = u[:, :count], s[:count]
    else:
        from scipy.sparse.linalg import svds

        u, s, _ = svds(symmetric, count, v0=np.ones(n))
    rows = torch.nn.functional.normalize(torch.from_numpy(u * np.sqrt(s)), dim=1)
    found = (rows @ rows.T).clamp(min=0) ** power
    return (found / found.max().clamp(min=1e-30)).to(coefficients)


def spectral_groups(affinity: Float[Tensor, "n n"], k: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """Spectral clustering of such affinities, its vectors turned to indicators (Yu and Shi 2003), by scikit-learn."""
    from sklearn.cluster import SpectralClustering

    if k >= len(affinity):
        return torch.arange(len(affinity), device=affinity.device)
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    spectral = SpectralClustering(k, affinity="precomputed", assign_labels="discretize", random_state=seed)
    linked = affinity.double().cpu().numpy() + LINK
    return torch.from_numpy(spectral.fit_predict(linked)).long().to(affinity.device)
