"""Learning from labels that a net has given itself."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def class_weights(label: Int[Tensor, " n"], k: int) -> Float[Tensor, " k"]:
    """n / n_c by group, 1 for one without an item: the weighted mean is then the mean over groups of their means."""
    counts = label.bincount(minlength=k)
    return torch.where(counts > 0, len(label) / counts.clamp(min=1), 1.0)
