"""A queue: the last rows that a method has pushed, such as the keys of other batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Queue(nn.Module):
    """A first-in-first-out ring of rows (length, width); it begins with normalised Gaussian ones.

    All processes hold the same rows: push gathered ones.
    """

    rows: Tensor
    at: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(length, width)))
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, rows: Float[Tensor, "b d"]) -> None:
        """Write these rows over the oldest; no more of them than the queue is long."""
        where = (self.at + torch.arange(len(rows), device=rows.device)) % len(self.rows)
        self.rows[where] = rows
        self.at.copy_((self.at + len(rows)) % len(self.rows))
