"""A teacher: copies of parts of a net that follow them as exponential moving averages. No gradient reaches it."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Teacher(nn.Module):
    """Copies of the parts by their names in the net, made when it is built: `Teacher(backbone=net.backbone, ...)`.

    In training mode its normalisations use the statistics of its own batches. Features of all items by it are
    `features(by=net.teacher.backbone)`. It is saved with checkpoints; a model keeps it only where the card's `answers`
    say so.
    """

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        self.names = tuple(parts)
        for name, part in parts.items():
            self.add_module(name, copy.deepcopy(part).requires_grad_(False))

    @torch.no_grad()
    def follow(self, net: nn.Module, keep: float) -> None:
        """teacher <- keep · teacher + (1 - keep) · net's part, of parameters; its norms keep their own statistics."""
        for name in self.names:
            own, others = self.get_submodule(name).parameters(), net.get_submodule(name).parameters()
            averages: list[torch.Tensor] = list(own)
            if averages:  # the identity has none
                torch._foreach_lerp_(averages, [p.detach() for p in others], 1 - keep)

    @torch.no_grad()
    def take_over(self, net: nn.Module, *, statistics: bool = True) -> None:
        """Copy the teacher's parts into the net, so that the teacher answers.

        Without `statistics` the net's norms keep their own, for a teacher that averages parameters alone.
        """
        for name in self.names:
            part, copied = net.get_submodule(name), self.get_submodule(name)
            if statistics:
                part.load_state_dict(copied.state_dict())
            else:
                for own, average in zip(part.parameters(), copied.parameters(), strict=True):
                    own.copy_(average)
