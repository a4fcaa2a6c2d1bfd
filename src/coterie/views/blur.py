"""Gaussian blur with one sigma per image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def blur_size(sigma: float, side: int) -> int:
    """Kernel size that holds three sigma on both sides, as far as an image's reflected border goes. 2.0 -> 13.

    Pillow's blur, which the authors of CDC use, is not cut off either; SimCLR's tenth of the side (3 pixels of 32) is.
    """
    return 2 * min(math.ceil(3 * sigma), side - 1) + 1


def gaussian_blur(
    images: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"], kernel_size: int
) -> Float[Tensor, "b c h w"]:
    """Convolve with a Gaussian cut off at `kernel_size` (odd) pixels, borders reflected: torchvision's `gaussian_blur`.

    One axis after the other, as a sum of shifted images: on a CPU several times as fast as a convolution with as many
    groups as images, or as products with band matrices.
    """
    reach = kernel_size // 2
    distance = torch.arange(reach + 1, device=images.device)
    taps = torch.exp(-0.5 * (distance / sigma[:, None]).square())
    taps = taps / (taps[:, :1] + 2 * taps[:, 1:].sum(1, keepdim=True))
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    return _convolve(_convolve(padded, taps, dim=3), taps, dim=2)


def _convolve(padded: Tensor, taps: Float[Tensor, "b k"], dim: int) -> Tensor:
    """Weigh the pixels at distance 0, 1, ... on both sides along `dim` by `taps`; the padding is used up."""
    reach = taps.shape[1] - 1
    size = padded.shape[dim] - 2 * reach
    weights = taps[:, :, None, None, None].unbind(1)
    out = padded.narrow(dim, reach, size) * weights[0]
    for distance in range(1, reach + 1):
        both = padded.narrow(dim, reach - distance, size) + padded.narrow(dim, reach + distance, size)
        out.addcmul_(both, weights[distance])
    return out
