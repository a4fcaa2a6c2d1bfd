"""Rows scaled to length 1, whatever the size of their values."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

SMALLEST, LARGEST = 1e-10, 1e15  # beyond these a row's squares, or PyTorch's least length, would decide the result


def unit_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Each row divided by its length; a row of zeros stays one.

    `functional.normalize` alone makes zeros of float32 rows longer than 1.8e19, and leaves those below 1e-12 short.
    """
    largest = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)
    far = (largest > LARGEST) | ((largest > 0) & (largest < SMALLEST))
    if bool(far.any()):
        rows = torch.where(far, rows / largest, rows)
    return functional.normalize(rows, dim=1)
