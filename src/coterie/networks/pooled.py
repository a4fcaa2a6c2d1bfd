"""Backbones whose features are convolutional maps, pooled to a small grid and projected to a few hundred numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.heads import steady_product

GRID = 4  # pixels of the side that each map is pooled to
PROJECTED = 256


class PooledMaps(nn.Module):
    """A net of convolutions with a long output (b, length), and a projection of it that no gradient moves.

    (x - centre) · directionsᵀ has `num_features` numbers: 256, or fewer for shorter outputs. The directions are drawn
    at random until a method places others. The net is called `convolutions`.
    """

    centre: Tensor
    directions: Tensor

    def __init__(self, convolutions: nn.Module, length: int) -> None:
        super().__init__()
        self.num_features = min(PROJECTED, length)
        self.convolutions = convolutions
        self.register_buffer("centre", torch.zeros(length))
        # Random directions keep distances, on average.
        self.register_buffer("directions", torch.randn(self.num_features, length) * self.num_features**-0.5)

    @torch.no_grad()
    def place(self, centre: Float[Tensor, " f"], directions: Float[Tensor, "m f"]) -> None:
        """Take another projection, of at most `num_features` directions; the features left over are 0."""
        self.centre.copy_(centre)
        self.directions.zero_()
        self.directions[: len(directions)] = directions

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        pooled = self.convolutions(images)
        with torch.autocast(images.device.type, enabled=False):
            return steady_product(pooled.float() - self.centre, self.directions)


def resized(images: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c y x"]:
    """The images at another height and width, smoothed; as they are where they have it."""
    if images.shape[2:] == size:
        return images
    # In float32: torch has no smoothed resizing of half precision.
    return F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
