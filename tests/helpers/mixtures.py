"""Features of groups that overlap a little."""

from __future__ import annotations

import torch
from torch import Tensor

from coterie.evaluation import accuracy
from helpers.draws import seeded


def mixture(n: int = 240, d: int = 32, k: int = 4, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Non-negative features around k centres, as a ResNet's, and the true groups."""
    generator = seeded(5)
    centres = 2 * torch.randn(k, d, generator=generator)
    labels = torch.arange(n) % k
    return (centres[labels] + noise * torch.randn(n, d, generator=generator)).relu(), labels


def agreement(found: Tensor, labels: Tensor) -> float:
    """Accuracy after matching."""
    return accuracy(labels.numpy(), found.numpy())
