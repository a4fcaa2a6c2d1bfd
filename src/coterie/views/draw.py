"""Random numbers for a batch: every item gets its own, and they do not depend on how the batch is shared out.

The numbers of all `n` items of the global batch are drawn on the CPU from one seeded generator; each process keeps the
rows that are its own. So two processes see together exactly the views that one process would have seen.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Draw:
    """A seeded source of one random number per item.

    generator: a CPU generator. n: items in the global batch. rows: the items that this process holds (None: all).
    """

    def __init__(
        self, generator: torch.Generator, n: int, rows: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.generator, self.n, self.rows, self.device = generator, n, rows, torch.device(device)

    def _keep(self, numbers: Tensor) -> Tensor:
        return (numbers if self.rows is None else numbers[self.rows]).to(self.device)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " b"]:
        return self._keep(low + (high - low) * torch.rand(self.n, generator=self.generator))

    def chance(self, p: float) -> Bool[Tensor, " b"]:
        return self._keep(torch.rand(self.n, generator=self.generator) < p)

    def integers(self, low: int, high: int) -> Int[Tensor, " b"]:
        """Integers in [low, high), as `torch.randint`."""
        return self._keep(torch.randint(low, high, (self.n,), generator=self.generator))

    def normal(self, *shape: int) -> Float[Tensor, "b *shape"]:  # noqa: UP037
        return self._keep(torch.randn(self.n, *shape, generator=self.generator))

    def permutation(self, k: int) -> Int[Tensor, "b k"]:
        """A random order of 0..k-1 for each item."""
        return self._keep(torch.rand(self.n, k, generator=self.generator).argsort(1))
