"""The passes of an epoch: which items each has, in which order, in which batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from coterie.contract import Method, Pass, passes_of
from coterie.data.items import JoinedItems
from coterie.networks.net import Net
from coterie.training.seeds import generator_of
from coterie.types import Items

SMALLEST = 2  # rows of a batch in each process, below which batch normalisation has nothing to measure


@dataclass(frozen=True)
class PassPlan:
    """One pass: `steps` batches of `size` items each in an epoch, of the `whole` that go through all items."""

    wanted: Pass
    items: Items
    size: int
    steps: int
    whole: int
    before: int  # steps of the epoch before this pass

    @property
    def seen(self) -> int:
        """Items that an epoch shows in this pass."""
        return self.steps * min(self.whole * self.size, len(self.items)) // self.whole

    def path(self, seed: int, stage: str, epoch: int) -> tuple[int | str, ...]:
        """The path for `seed_of`, on which the random numbers of this pass depend."""
        return (seed, stage, epoch, self.wanted.name) if self.wanted.name else (seed, stage, epoch)

    def order(self, path: tuple[int | str, ...]) -> Tensor:
        """Every item once."""
        if not self.wanted.shuffled:
            return torch.arange(len(self.items))
        return torch.randperm(len(self.items), generator=generator_of(*path, "order"))

    def batches(self, seed: int, stage: str, epoch: int, net: Net | None = None) -> list[Tensor]:
        """The rows of each batch of an epoch; a pass with `sample` lets that part of the net draw them."""
        if self.wanted.sample is not None:
            assert net is not None
            random = generator_of(*self.path(seed, stage, epoch), "sample")
            sampler = cast(Any, net.get_submodule(self.wanted.sample))
            drawn: Tensor = sampler.draw(self.steps * self.size, random)
            return list(drawn.cpu().split(self.size))
        # From the rounds through all items that this epoch lies in.
        first, skipped = divmod(epoch * self.steps, self.whole)
        chunks: list[Tensor] = []
        for number in range(first, first - (-(skipped + self.steps) // self.whole)):
            chunks += self.order(self.path(seed, stage, number)).split(self.size)[: self.whole]
        return chunks[skipped : skipped + self.steps]


def plan_passes(
    method: Method, items: Items, extra: Callable[[], Items] | None, size: int, processes: int
) -> tuple[PassPlan, ...]:
    """The passes of a method's epoch, in order. Batches of `size` are global: all processes' rows together."""
    plans: list[PassPlan] = []
    for wanted in passes_of(method):
        seen = JoinedItems(items, extra()) if wanted.extra and extra is not None else items
        whole, rest = divmod(len(seen), size)
        if wanted.keep_last and rest >= SMALLEST * processes:
            whole += 1
        plans.append(PassPlan(wanted, seen, size, wanted.steps or whole, whole, sum(plan.steps for plan in plans)))
    return tuple(plans)


def steps_of(plans: tuple[PassPlan, ...]) -> int:
    """Steps in an epoch, of all passes together."""
    return sum(plan.steps for plan in plans)
