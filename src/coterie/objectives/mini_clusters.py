"""Region-aware calibration targets: a prediction is averaged with those of nearby items.

Jia et al., "Towards Calibrated Deep Clustering Network", ICLR 2025, Eq. (1) and Theorem 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from coterie.algorithms.kmeans import kmeans


def practical_cells(batch: int, k: int) -> int:
    """K without labels: four mini-clusters per group, and on average at most 25 items in each, as for CIFAR-20."""
    return max(2, min(max(4 * k, -(-batch // 25)), batch // 2))


def cell_means(
    features: Float[Tensor, "n d"],
    p: Float[Tensor, "n k"],
    cells: int,
    generator: torch.Generator,
    norm: str = "l1",
    restarts: int = 1,
) -> Float[Tensor, "n k"]:
    """Give every item the mean prediction of its mini-cluster, which tempers the over-confident ones (Theorem 1)."""
    if norm != "none":
        features = F.normalize(features, p=1 if norm == "l1" else 2, dim=1)
    cell = kmeans(features, cells, generator=generator, restarts=restarts).labels
    return means_by_cell(p, cell, cells)


def means_by_cell(p: Float[Tensor, "n k"], cell: Int[Tensor, " n"], cells: int) -> Float[Tensor, "n k"]:
    """The mean of the rows of each item's cell (Eq. 1)."""
    sums = torch.zeros(cells, p.shape[1], dtype=p.dtype, device=p.device).index_add_(0, cell, p)
    return (sums / torch.bincount(cell, minlength=cells).clamp(min=1)[:, None])[cell]
