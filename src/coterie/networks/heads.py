"""Heads: features -> logits over the groups, and the projector of contrastive methods."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def mlp_head(width: int, hidden: int, k: int) -> nn.Sequential:
    """Linear - BatchNorm - ReLU - Linear, both layers with bias (CDC's heads, "three-layer MLP")."""
    return nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, k))


def projector(width: int, hidden: int, out: int, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear - (BatchNorm) - ReLU - Linear, in front of a contrastive loss."""
    norm: nn.Module = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
    return nn.Sequential(nn.Linear(width, hidden), norm, nn.ReLU(inplace=True), nn.Linear(hidden, out))


def standardise_rows(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Per item: subtract the mean over its features, divide by their standard deviation, scale to length 1.

    Constant rows become 0 instead of NaN (CDC spec, pitfall 5).
    """
    centred = features - features.mean(1, keepdim=True)
    return torch.nn.functional.normalize(centred, dim=1)


class PrototypeHead(nn.Module):
    """The posterior of a spherical Gaussian mixture around K-means centres, as logits.

    logit_k = -|x - c_k|² / (2 s²) on row-standardised features x. s² is the within-cluster variance per effective
    dimension (participation ratio of the within-cluster covariance), so that the confidence does not saturate only
    because the features are many. The centres are buffers: `place` sets them, no gradient does.
    """

    centres: Tensor
    variance: Tensor

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(k, width))
        self.register_buffer("variance", torch.ones(()))

    @torch.no_grad()
    def place(self, centres: Float[Tensor, "k d"], features: Float[Tensor, "n d"], labels: Tensor) -> None:
        """Take K-means centres of row-standardised `features` (not yet standardised here) and measure s²."""
        rest = standardise_rows(features) - centres[labels]
        covariance = rest.T @ rest / len(rest)
        trace, square = covariance.diagonal().sum(), (covariance**2).sum()
        effective = (trace**2 / square.clamp(min=1e-20)).clamp(min=1.0)
        self.centres.copy_(centres)
        self.variance.copy_((trace / effective).clamp(min=1e-8))

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        distance = torch.cdist(standardise_rows(features), self.centres).square()
        return -distance / (2 * self.variance)
