"""A table with a row for every item of the source, as a part of the net, so that checkpoints hold it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ItemTable(nn.Module):
    """One row for every item: assignments, latents, rows of other items (`dtype`: integers, which stay exact).

    Empty until `fill`, since the number of items is not known before. A checkpoint has its own
    number of rows, which a plain buffer would refuse; hence the extra state.
    """

    rows: Tensor

    def __init__(self, width: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, width, dtype=dtype), persistent=False)

    @torch.no_grad()
    def fill(self, rows: Tensor) -> None:
        """Take these rows (n, width), in the order of the source."""
        self.rows = rows.detach().to(self.rows, copy=True)

    def of(self, index: Tensor) -> Tensor:
        """The rows of these items."""
        return self.rows[index.to(self.rows.device)]

    def get_extra_state(self) -> Tensor:
        return self.rows

    def set_extra_state(self, state: Tensor) -> None:
        self.rows = state.to(self.rows, copy=True)
