"""Distortions of embeddings, for inputs standardised by `normalisation`: mean 0, overall standard deviation 1."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from coterie.views.draw import Draw


def feature_dropout(vectors: Float[Tensor, "b d"], draw: Draw, p: float) -> Float[Tensor, "b d"]:
    """Set each feature with probability p to 0, its mean over the data; the others are not scaled up."""
    threshold = float(torch.special.ndtri(torch.tensor(p, dtype=torch.float64)))
    return vectors * (draw.normal(vectors.shape[1]) >= threshold)


def gaussian_noise(vectors: Float[Tensor, "b d"], draw: Draw, scale: float) -> Float[Tensor, "b d"]:
    """Add noise of standard deviation `scale`, in units of the data's overall standard deviation."""
    return vectors + scale * draw.normal(vectors.shape[1])


def mix(vectors: Float[Tensor, "b d"], draw: Draw, largest: float) -> Float[Tensor, "b d"]:
    """Move each vector towards another item by a share uniform in [0, largest]: x + share (partner - x).

    Rows 2i and 2i + 1 are each other's partners; a batch is shuffled, so the partner is a random item, and it lies in
    the same process whenever each holds an even number of consecutive rows. An odd last row keeps its place.
    """
    row = torch.arange(len(vectors), device=vectors.device)
    partner = vectors[(row ^ 1).clamp(max=len(vectors) - 1)]
    return torch.lerp(vectors, partner, draw.uniform(0.0, largest)[:, None])


def distort(
    vectors: Float[Tensor, "b d"], draw: Draw, dropout: float, noise: float, mixing: float
) -> Float[Tensor, "b d"]:
    """Mix, add noise, then drop features, so that a dropped feature is exactly 0."""
    return feature_dropout(gaussian_noise(mix(vectors, draw, mixing), draw, noise), draw, dropout)
