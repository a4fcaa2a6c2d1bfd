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

RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4  # of the descent that decorrelates
SCALE = 5.0  # of its cosines


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


@torch.no_grad()
def decorrelate(weights: Float[Tensor, "n d"], steps: int = 2000) -> Float[Tensor, "n d"]:
    """Push the rows apart in direction ("orthogonalise" in the paper) by a small deterministic optimisation.

    Two copies Z and W of the rows are trained so that each ReLU(Z_i) recognises its own W_i among all W_j by cosine:
    cross-entropy with scale 5, SGD with rate 0.1 falling to 0 along a cosine, momentum 0.9, weight decay 1e-4. The rows
    of W are returned, raw. Raises ValueError on a zero row, whose direction is undefined (spec, pitfall 4).
    """
    if bool((weights.norm(dim=1) < 1e-12).any()):
        raise ValueError("cannot decorrelate a zero row: an empty cluster reached the initialisation")
    # The gradient is written out, into tensors that are there and views that are made once, and nothing is kept for a
    # gradient of it: for 2,000 steps on few numbers, all that is not arithmetic would take more than half of the time.
    with torch.inference_mode():
        n = len(weights)
        both = torch.stack([weights, weights])  # Z and W
        speed, unit, slope, products = (torch.zeros_like(both) for _ in range(4))
        cosines, error = (weights.new_empty(n, n) for _ in range(2))
        length, along = (weights.new_empty(2, n, 1) for _ in range(2))
        own, z = error.diagonal(), both[0]
        (unit_z, unit_w), (slope_z, slope_w) = unit, slope
        unit_w_turned, error_turned = unit_w.T, error.T
        for step in range(steps):
            unit.copy_(both)
            unit_z.clamp_(min=0)
            torch.linalg.vector_norm(unit, dim=2, keepdim=True, out=length)
            unit.div_(length.clamp_(min=1e-12))  # as F.normalize
            torch.mm(unit_z, unit_w_turned, out=cosines)
            torch.softmax(cosines.mul_(SCALE), dim=1, out=error)
            own.sub_(1)  # the slope of the cross-entropy by the scaled cosines, times n
            torch.mm(error, unit_w, out=slope_z)
            torch.mm(error_turned, unit_z, out=slope_w)
            # Of a unit row u of length l: (g - u (u·g)) / l, and nothing where ReLU cut Z off.
            torch.sum(torch.mul(unit, slope, out=products), dim=2, keepdim=True, out=along)
            slope.addcmul_(unit, along, value=-1).mul_(length.reciprocal_().mul_(SCALE / n))
            slope_z.mul_(z > 0)
            speed.mul_(MOMENTUM).add_(slope.add_(both, alpha=WEIGHT_DECAY))
            both.sub_(speed, alpha=RATE * (1 + math.cos(math.pi * step / steps)) / 2)
    return both[1].clone()


@torch.no_grad()
def write_prototypes(head: nn.Module, first: Float[Tensor, "h d"], second: Float[Tensor, "k h"]) -> None:
    """Copy the prototypes into a head's two linear layers; biases 0, batch normalisation untouched."""
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    for layer, weight in zip(layers, (first, second), strict=True):
        layer.weight.copy_(weight)
        layer.bias.zero_()
