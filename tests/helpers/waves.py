"""Fixed numbers, for which other code gave its answers."""

from __future__ import annotations

import torch
from torch import Tensor


def wave(n: int, k: int, step: float, shift: float, scale: float) -> Tensor:
    """Fixed numbers that any machine makes alike."""
    return scale * torch.sin(step * torch.arange(n * k, dtype=torch.float32) + shift).view(n, k)
