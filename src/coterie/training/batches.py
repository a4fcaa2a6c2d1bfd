"""The batches of an epoch: which items, in which order, and the views of them that a method asks for.

Items are read while those before are trained on. On a CPU the views of one batch are made when it is its turn, so that
they are still in the cache; on an accelerator those of several batches at once, since what they cost there is the
number of operations and hardly their size. Either way a batch's views are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from coterie.methods.contract import Method, name_of, views_of
from coterie.training.distributed import deal, share_of
from coterie.training.passes import Way
from coterie.training.seeds import generator_of, seed_of
from coterie.types import Batch, Features, ItemSpec
from coterie.views.draw import Draw, JoinedDraw
from coterie.views.recipes import Family, make_views
from coterie.views.settings import ViewSettings

AT_ONCE = 16  # batches whose views an accelerator makes at once
NUMBERS_AT_ONCE = 2**24  # in one view of them


@dataclass(frozen=True)
class Taught:
    """What the batches of a stage are made for and from, beside the items."""

    method: Method
    part: int  # items of a batch that the method works on at a time
    seed: int
    family: Family
    views: ViewSettings
    mean: Tensor
    std: Tensor
    features: Features
    rank: int = 0
    processes: int = 1


@dataclass(frozen=True)
class Read:
    """One batch before its views: this process' items, their numbers, and which rows of the global batch they are."""

    step: int
    index: Tensor
    rows: Tensor | None
    raw: Tensor


def batches_of(ways: tuple[Way, ...], taught: Taught, epoch: int, step: int) -> Iterator[Batch]:
    """The batches of an epoch from `step` on, pass after pass."""
    steps = sum(way.steps for way in ways)
    for way in ways:
        if step < way.before + way.steps:
            yield from _one_pass(way, taught, epoch, max(0, step - way.before), steps)


def batches_at_once(spec: ItemSpec, size: int, device: torch.device) -> int:
    """How many batches of `size` items have their views made together."""
    if device.type == "cpu" or spec.kind != "images":  # vectors are mixed with others of their batch
        return 1
    return max(1, min(AT_ONCE, NUMBERS_AT_ONCE // (size * spec.channels * spec.height * spec.width)))


def _one_pass(way: Way, taught: Taught, epoch: int, first: int, steps: int) -> Iterator[Batch]:
    """The rest of a pass in an epoch of `steps` steps."""
    method = taught.method
    random = way.place(taught.seed, name_of(method), epoch)
    chunks = way.batches(taught.seed, name_of(method), epoch)

    def read(block: range) -> list[Read]:
        """This process' items of these steps, in the order of the steps."""
        found = []
        for step in block:
            index, rows = chunks[step], None
            if taught.processes > 1:
                rows = deal(len(index), taught.part, taught.rank, taught.processes)
                index = index[rows]
            found.append(Read(step, index, rows, way.items.take(index)))
        return found

    together = batches_at_once(way.items.spec, way.size, taught.mean.device)
    blocks = [range(begin, min(begin + together, way.steps)) for begin in range(first, way.steps, together)]
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(read, blocks[0])
        for following in [*blocks[1:], None]:
            block = ahead.result()
            if following is not None:
                ahead = pool.submit(read, following)
            draws = [
                Draw(generator_of(*random, item.step, "views"), len(chunks[item.step]), item.rows, taught.mean.device)
                for item in block
            ]
            for item, views in zip(block, views_at_once(block, draws, taught), strict=True):
                here, number = (*random, item.step), epoch * steps + way.before + item.step
                torch.manual_seed(seed_of(*here, "torch"))  # for dropout and the like inside a method
                yield Batch(
                    item.index,
                    views,
                    part_size=taught.part,
                    share=share_of(len(chunks[item.step]), taught.part),
                    progress=number / (method.epochs * steps),
                    generator=generator_of(*here, "method"),
                    turn=way.turn.name,
                    number=number,
                    per_epoch=steps,
                    features=taught.features,
                )


def views_at_once(block: list[Read], draws: list[Draw], taught: Taught) -> Iterator[dict[str, Tensor]]:
    """The views of each batch, by the name that the method gives them."""
    recipes, device = views_of(taught.method), taught.mean.device
    one = len(block) == 1
    raw = block[0].raw if one else torch.cat([item.raw for item in block])
    draw = draws[0] if one else JoinedDraw(draws)
    made = make_views(
        raw.to(device), list(recipes.values()), draw, taught.views, taught.family, taught.mean, taught.std
    )
    for views in zip(*(view.split([len(item.index) for item in block]) for view in made), strict=True):
        yield dict(zip(recipes, views, strict=True))
