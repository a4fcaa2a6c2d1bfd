"""An epoch as a row of passes: which items each goes through, in which order, in batches of which rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from coterie.data.items import JoinedItems
from coterie.methods.contract import Method, Pass, passes_of
from coterie.training.seeds import generator_of
from coterie.types import Items

SMALLEST = 2  # rows of a batch in each process, below which batch normalisation has nothing to measure


@dataclass(frozen=True)
class Way:
    """One pass: `steps` batches of `size` items each in an epoch, of the `whole` that go through all items."""

    turn: Pass
    items: Items
    size: int
    steps: int
    whole: int
    before: int  # steps of the epoch before this pass

    @property
    def seen(self) -> int:
        """Items that an epoch shows in this pass."""
        return self.steps * min(self.whole * self.size, len(self.items)) // self.whole

    def place(self, seed: int, stage: str, epoch: int) -> tuple[int | str, ...]:
        """Where the random numbers of this pass come from."""
        return (seed, stage, epoch, self.turn.name) if self.turn.name else (seed, stage, epoch)

    def order(self, place: tuple[int | str, ...]) -> Tensor:
        """Every item once."""
        if not self.turn.shuffled:
            return torch.arange(len(self.items))
        return torch.randperm(len(self.items), generator=generator_of(*place, "order"))

    def batches(self, seed: int, stage: str, epoch: int) -> list[Tensor]:
        """The items of each batch of an epoch, from the rounds through all items that it lies in."""
        first, skipped = divmod(epoch * self.steps, self.whole)
        chunks: list[Tensor] = []
        for number in range(first, first - (-(skipped + self.steps) // self.whole)):
            chunks += self.order(self.place(seed, stage, number)).split(self.size)[: self.whole]
        return chunks[skipped : skipped + self.steps]


def ways_of(
    method: Method, items: Items, extra: Callable[[], Items] | None, size: int, processes: int
) -> tuple[Way, ...]:
    """The passes of a method's epoch, in order. Batches of `size` are global: all processes' rows together."""
    ways: list[Way] = []
    for turn in passes_of(method):
        seen = JoinedItems(items, extra()) if turn.extra and extra is not None else items
        whole, rest = divmod(len(seen), size)
        if turn.keep_last and rest >= SMALLEST * processes:
            whole += 1
        ways.append(Way(turn, seen, size, turn.steps or whole, whole, sum(way.steps for way in ways)))
    return tuple(ways)
