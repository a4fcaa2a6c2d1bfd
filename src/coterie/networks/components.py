"""The leading principal components of features, half whitened: a space in which fewer items are everybody's neighbour.

Component j is divided by the square root of its deviation, and each row scaled to length 1. Embeddings of encoders vary
mostly along a few directions, and near neighbours in them are the same few items again and again (hubs: Radovanović,
Nanopoulos and Ivanović, "Hubs in Space", JMLR 2010); docs/frozen_heads.md has numbers.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

LEAST = 1e-6  # of the largest deviation: smaller deviations are rounding errors, and are left out


class Components(nn.Module):
    """Features (n, d) -> rows (n, m) of length 1. Rows equal to the mean stay 0."""

    mean: Tensor
    directions: Tensor

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("directions", torch.zeros(width, min(width, count)))

    @torch.no_grad()
    def place(self, features: Float[Tensor, "n d"]) -> None:
        """Take mean and directions from these items. Signs are fixed, so that the rows are the same each time."""
        rows = features.double()
        mean = rows.mean(0)
        rows = rows - mean
        if len(rows) < rows.shape[1]:  # the same directions, by products of items: the smaller of two matrices
            variances, weights = torch.linalg.eigh(rows @ rows.T / len(rows))
            vectors = functional.normalize(rows.T @ weights, dim=0)
        else:
            variances, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        count = min(self.directions.shape[1], len(variances))
        deviations, vectors = variances.flip(0)[:count].clamp(min=0).sqrt(), vectors.flip(1)[:, :count]
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        kept = deviations > LEAST * deviations[0]
        scaled = vectors * largest.sign() / deviations.clamp(min=float(LEAST * deviations[0]) or 1.0).sqrt()
        self.mean.copy_(mean)
        self.directions.zero_()[:, :count].copy_(scaled * kept)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        return functional.normalize((features - self.mean) @ self.directions, dim=1)
