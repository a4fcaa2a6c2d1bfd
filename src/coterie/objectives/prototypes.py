"""Heads that begin as prototypes of the features: K-means for both layers, pushed apart in direction.

Jia et al., "Towards Calibrated Deep Clustering Network", ICLR 2025, Eq. (6).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.networks.heads import standardise_rows


def prototype_weights(
    features: Float[Tensor, "n d"], hidden: int, k: int, generator: torch.Generator
) -> tuple[Float[Tensor, "h d"], Float[Tensor, "k h"]]:
    """Both layers of a head from K-means: `hidden` prototypes of the features, k of their activations; decorrelated.

    K-means sees row-standardised features, the activations are those of the raw features and of the prototypes before
    decorrelation (spec section 4, steps 2-6).
    """
    first = kmeans(standardise_rows(features), hidden, generator=generator).centres
    activations = hidden_activations(features, first)
    second = kmeans(standardise_rows(activations), k, generator=generator, restarts=10).centres
    return decorrelate(first), decorrelate(second)


def hidden_activations(features: Float[Tensor, "n d"], weights: Float[Tensor, "h d"]) -> Float[Tensor, "n h"]:
    """ReLU(BN(features · weightsᵀ)); a fresh batch normalisation in evaluation mode is a factor 1/√(1+1e-5)."""
    return F.relu(features @ weights.T / math.sqrt(1 + 1e-5))


def decorrelate(weights: Float[Tensor, "n d"], steps: int = 2000, scale: float = 5.0) -> Float[Tensor, "n d"]:
    """Push the rows apart in direction ("orthogonalise" in the paper) by a small deterministic optimisation.

    Two copies Z and W of the rows are trained so that each ReLU(Z_i) recognises its own W_i among all W_j by cosine:
    cross-entropy with scale 5, SGD with rate 0.1 falling to 0 along a cosine, momentum 0.9, weight decay 1e-4. The rows
    of W are returned, raw. Raises ValueError on a zero row, whose direction is undefined (spec, pitfall 4).
    """
    if bool((weights.norm(dim=1) < 1e-12).any()):
        raise ValueError("cannot decorrelate a zero row: an empty cluster reached the initialisation")
    with torch.enable_grad():
        z, w = (weights.detach().clone().requires_grad_() for _ in range(2))
        optimiser = torch.optim.SGD([z, w], lr=0.1, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        own = torch.arange(len(weights), device=weights.device)
        for _ in range(steps):
            cosine = F.normalize(F.relu(z)) @ F.normalize(w).T
            loss = F.cross_entropy(scale * cosine, own)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return w.detach()


@torch.no_grad()
def write_prototypes(head: nn.Module, first: Float[Tensor, "h d"], second: Float[Tensor, "k h"]) -> None:
    """Copy the prototypes into a head's two linear layers; biases 0, batch normalisation untouched."""
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    for layer, weight in zip(layers, (first, second), strict=True):
        layer.weight.copy_(weight)
        layer.bias.zero_()
