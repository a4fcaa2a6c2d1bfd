"""Random numbers for a batch: every item gets its own, and they do not depend on how processes share the batch.

The numbers of all `n` items of the global batch are drawn on the CPU from one seeded generator; each process keeps the
rows that are its own. So two processes together make exactly the views that one process would make. Nor does it
matter how many batches are prepared at once: each keeps its own generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Make = Callable[[torch.Generator, int], Tensor]


class Draw:
    """A seeded source of one random number per item.

    generator: a CPU generator. n: items in the global batch. rows: the items that this process holds (None: all).
    """

    def __init__(
        self, generator: torch.Generator, n: int, rows: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.generator, self.n, self.rows, self.device = generator, n, rows, torch.device(device)

    def own(self, make: Make) -> Tensor:
        """The numbers of this process' items, on the CPU."""
        numbers = make(self.generator, self.n)
        return numbers if self.rows is None else numbers[self.rows]

    def _on_device(self, make: Make) -> Tensor:
        # CUDA copies pageable memory away before it returns, so there is nothing to wait for.
        return self.own(make).to(self.device, non_blocking=self.device.type == "cuda")

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " b"]:
        return self._on_device(lambda generator, n: low + (high - low) * torch.rand(n, generator=generator))

    def chance(self, p: float) -> Bool[Tensor, " b"]:
        return self._on_device(lambda generator, n: torch.rand(n, generator=generator) < p)

    def integers(self, low: int, high: int) -> Int[Tensor, " b"]:
        """Integers in [low, high), as `torch.randint`."""
        return self._on_device(lambda generator, n: torch.randint(low, high, (n,), generator=generator))

    def normal(self, *shape: int) -> Float[Tensor, "b *shape"]:  # noqa: F821, UP037
        return self._on_device(lambda generator, n: torch.randn(n, *shape, generator=generator))

    def permutation(self, k: int) -> Int[Tensor, "b k"]:
        """A random order of 0..k-1 for each item."""
        return self._on_device(lambda generator, n: torch.rand(n, k, generator=generator).argsort(1))


class JoinedDraw(Draw):
    """Several batches' numbers, one batch after the other, each as its own `Draw` would have given them."""

    def __init__(self, draws: Sequence[Draw]) -> None:
        self.draws, self.device = draws, draws[0].device

    def own(self, make: Make) -> Tensor:
        return torch.cat([draw.own(make) for draw in self.draws])
