"""Cutout: one square hole in each image (DeVries and Taylor 2017, in the form that CDC uses)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from coterie.views.draw import Draw


def cutout(
    images: Float[Tensor, "b c h w"], row: Int[Tensor, " b"], column: Int[Tensor, " b"], length: Int[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """Set to 0 the rows [row - l // 2, row + l // 2) and the columns alike, l = length, clipped at the border.

    Meant for normalised images, where 0 is the mean colour. A length of 1 cuts nothing.
    """
    hole_rows = _span(row, length, images.shape[2])
    hole_columns = _span(column, length, images.shape[3])
    keep = 1 - hole_rows[:, :, None] * hole_columns[:, None, :]
    return images * keep[:, None]


def random_cutout(images: Float[Tensor, "b c h w"], draw: Draw, longest: int) -> Float[Tensor, "b c h w"]:
    """A hole with its side uniform in 1..longest, at most half of the image's side, centre uniform over the image."""
    h, w = images.shape[2:]
    longest = max(1, min(longest, min(h, w) // 2))
    return cutout(images, draw.integers(0, h), draw.integers(0, w), draw.integers(1, longest + 1))


def _span(centre: Int[Tensor, " b"], length: Int[Tensor, " b"], size: int) -> Float[Tensor, "b s"]:
    pixel = torch.arange(size, device=centre.device)
    half = (length // 2)[:, None]
    return ((pixel >= centre[:, None] - half) & (pixel < centre[:, None] + half)).float()
