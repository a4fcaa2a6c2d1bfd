"""Random numbers that tests draw alike on every run."""

from __future__ import annotations

import torch
from torch import Tensor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    """Standard normal points (n, d)."""
    return torch.randn(n, d, generator=seeded(seed))


def probabilities(n: int, k: int, seed: int = 0, sharpness: float = 2.0) -> Tensor:
    """Rows (n, k) that sum to 1; the larger `sharpness`, the surer."""
    return (sharpness * torch.randn(n, k, generator=seeded(seed))).softmax(1)
