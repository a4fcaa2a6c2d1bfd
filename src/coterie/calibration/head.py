"""The calibration head: CDC's behind a standardisation, and the rule that it never moves an item to another group."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.networks.heads import mlp_head

AHEAD = 1e-3  # in logits, of an item's group before another that is as likely


class Standardise(nn.Module):
    """Features to mean 0 and deviation 1; those of some backbones lie far from 0 and close together."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    @torch.no_grad()
    def place(self, features: Float[Tensor, "n d"]) -> None:
        """Take mean and deviation of these features; a feature that is almost constant is not scaled up."""
        std = features.std(0)
        self.mean.copy_(features.mean(0))
        self.std.copy_(std.clamp(min=max(1e-3 * float(std.square().mean().sqrt()), 1e-12)))

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (features - self.mean) / self.std


def calibration_head(width: int, hidden: int, k: int) -> nn.Sequential:
    """CDC's head behind a standardisation. CDC's own head learns with its backbone; here the features are fixed."""
    return nn.Sequential(Standardise(width), *mlp_head(width, hidden, k))


def keep_groups(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """A calibration head's logits, changed where their largest is not that of the item's group.

    Calibration says how far a group can be believed, not where an item belongs: where the head prefers another group
    both get the same probability, and the item's own is called first. So the answer stays the clustering's, with a
    confidence of at most about a half. (Softmax of (0, 2) with label 0: 0.12, 0.88 becomes 0.5, 0.5.) A third group
    that would still lie above them shares with both, and so on.
    """
    other = logits.argmax(1, keepdim=True)
    own = label[:, None]
    both = torch.cat([logits.gather(1, own), logits.gather(1, other)], dim=1)
    half = both.logsumexp(1, keepdim=True) - math.log(2)
    lead = lead_at(half)
    shared = logits.scatter(1, other, half - lead).scatter(1, own, half + lead)
    above = (shared >= half + lead).sum(1, keepdim=True) > 1
    shared = torch.where(above, levelled(logits, own), shared)
    return torch.where(own == other, logits, shared)


def levelled(logits: Float[Tensor, "n k"], own: Int[Tensor, "n 1"]) -> Float[Tensor, "n k"]:
    """Give `own` and as few of the largest groups as possible one mean probability, so that no other lies above it."""
    others = logits.scatter(1, own, -torch.inf).sort(1, descending=True).values[:, :-1]
    together = torch.cat([logits.gather(1, own), others], 1).logcumsumexp(1)[:, 1:]
    members = torch.arange(2, logits.shape[1] + 1, device=logits.device)
    levels = together - members.log()  # with the first others, one more in each column
    following = torch.cat([others[:, 1:], torch.full_like(others[:, :1], -torch.inf)], 1)
    level = levels.gather(1, (levels >= following).int().argmax(1, keepdim=True))
    lead = lead_at(level)
    return torch.where(logits > level, level - lead, logits).scatter(1, own, level + lead)


def lead_at(level: Float[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
    """`AHEAD`, or what float32 can tell at logits of this size: 0.24 at a million, of an item far outside."""
    return (2 * torch.finfo(level.dtype).eps * level.abs()).clamp(min=AHEAD)
