"""The batches of an epoch: which items, in which order, and the views of them that a method asks for.

Items are read while those before are trained on. On a CPU the views of one batch are made when it is its turn, so that
they are still in the cache; on an accelerator those of several batches at once, since what they cost there is the
number of operations and hardly their size. Either way a batch's views are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from coterie.common.isolation import Threads
from coterie.contract import Trained, name_of, part_size_of, views_of
from coterie.networks.net import Net
from coterie.training.distributed import deal, share_of
from coterie.training.passes import PassPlan, steps_of
from coterie.training.seeds import generator_of, seed_torch
from coterie.types import Batch, Family, Features, ItemSpec
from coterie.views.draw import Draw, JoinedDraw
from coterie.views.recipes import make_views
from coterie.views.settings import ViewSettings

AT_ONCE = 16  # batches whose views an accelerator makes at once
NUMBERS_AT_ONCE = 2**24  # in one view of them
ITEMS = ""  # whose views are made: the items' own, where `View.of` names no partner


@dataclass(frozen=True)
class BatchMaker:
    """What it takes to make the batches of a stage, beside the items."""

    method: Trained
    net: Net
    plans: tuple[PassPlan, ...]
    seed: int
    family: Family
    views: ViewSettings
    features: Features
    views_given: Collection[str] = ()  # settings of views that the user chose
    rank: int = 0
    processes: int = 1

    @property
    def part(self) -> int:
        """Items of one optimiser step."""
        return part_size_of(self.method, self.plans[0].size)


@dataclass(frozen=True)
class RawBatch:
    """One batch before its views: this process' items and partners, and which rows of the global batch they are."""

    step: int
    index: Tensor
    rows: Tensor | None
    raw: dict[str, Tensor]
    partners: dict[str, Tensor] = field(default_factory=dict)


def batches_of(maker: BatchMaker, epoch: int, step: int) -> Iterator[Batch]:
    """The batches of an epoch from `step` on, pass after pass."""
    for plan in maker.plans:
        if step < plan.before + plan.steps:
            yield from _one_pass(maker, plan, epoch, max(0, step - plan.before))


def batches_at_once(spec: ItemSpec, size: int, device: torch.device) -> int:
    """For how many batches of `size` items views are made at once."""
    if device.type == "cpu" or spec.kind != "images":  # vectors are mixed with others of their batch
        return 1
    return max(1, min(AT_ONCE, NUMBERS_AT_ONCE // (size * spec.channels * spec.height * spec.width)))


def _one_pass(maker: BatchMaker, plan: PassPlan, epoch: int, first: int) -> Iterator[Batch]:
    """The rest of a pass in an epoch."""
    method, device, steps = maker.method, maker.net.mean.device, steps_of(maker.plans)
    path = plan.path(maker.seed, name_of(method), epoch)
    chunks = plan.batches(maker.seed, name_of(method), epoch, maker.net)
    # As they are now: a batch that is read ahead must not depend on how far the reading is.
    parts = {name: cast(Any, maker.net.get_submodule(part)) for name, part in plan.wanted.partners.items()}
    tables: dict[str, Tensor] = {name: part.rows.cpu().clone() for name, part in parts.items()}

    def read(block: range) -> list[RawBatch]:
        """This process' items of these steps, in the order of the steps."""
        return [read_batch(maker, plan, step, chunks[step], tables, (*path, step)) for step in block]

    together = batches_at_once(plan.items.spec, plan.size, device)
    blocks = [range(begin, min(begin + together, plan.steps)) for begin in range(first, plan.steps, together)]
    with Threads(1) as pool:
        ahead = pool.submit(read, blocks[0])
        for following in [*blocks[1:], None]:
            block = ahead.result()
            if following is not None:
                ahead = pool.submit(read, following)
            for raw, views in zip(block, views_at_once(maker, block, path, [len(c) for c in chunks]), strict=True):
                here, number = (*path, raw.step), epoch * steps + plan.before + raw.step
                seed_torch(*here, "torch")  # for dropout and the like inside a method
                yield Batch(
                    raw.index,
                    views,
                    part_size=maker.part,
                    share=share_of(len(chunks[raw.step]), maker.part),
                    progress=number / (method.epochs * steps),
                    generator=generator_of(*here, "method"),
                    pass_name=plan.wanted.name,
                    partners=raw.partners,
                    number=number,
                    per_epoch=steps,
                    features=maker.features,
                )


def read_batch(
    maker: BatchMaker,
    plan: PassPlan,
    step: int,
    index: Tensor,
    tables: dict[str, Tensor],
    path: tuple[int | str, ...],
) -> RawBatch:
    """This process' items of one batch and their partners, which are drawn for the global batch."""
    rows = deal(len(index), maker.part, maker.rank, maker.processes) if maker.processes > 1 else None
    partners = {}
    for name, table in tables.items():
        random = generator_of(*path, "partner", name)
        column = torch.randint(table.shape[1], (len(index),), generator=random)
        partner = table[index, column].long()
        partners[name] = partner if rows is None else partner[rows]
    index = index if rows is None else index[rows]
    raw = {ITEMS: plan.items.take(index)}
    for name in {view.of for view in views_of(maker.method).values()} - {ITEMS}:
        if name in partners:
            raw[name] = plan.items.take(partners[name])
    return RawBatch(step, index, rows, raw, partners)


def views_at_once(
    maker: BatchMaker, block: list[RawBatch], path: tuple[int | str, ...], sizes: list[int]
) -> Iterator[dict[str, Tensor]]:
    """The views of each batch by their names, without those of partners that this pass does not bring."""
    device, wanted = maker.net.mean.device, views_of(maker.method)
    made: dict[str, list[Tensor]] = {}
    counts = [len(raw.index) for raw in block]
    for shown in block[0].raw:
        views = {name: view for name, view in wanted.items() if view.of == shown}
        apart = ("views", shown) if shown else ("views",)
        draws = [Draw(generator_of(*path, raw.step, *apart), sizes[raw.step], raw.rows, device) for raw in block]
        pictures = block[0].raw[shown] if len(block) == 1 else torch.cat([raw.raw[shown] for raw in block])
        draw = draws[0] if len(block) == 1 else JoinedDraw(draws)
        found = make_views(
            pictures.to(device),
            list(views.values()),
            draw,
            maker.views,
            maker.family,
            maker.net.mean,
            maker.net.std,
            maker.views_given,
        )
        made |= {name: list(view.split(counts)) for name, view in zip(views, found, strict=True)}
    ordered = [name for name in wanted if name in made]
    for place in range(len(block)):
        yield {name: made[name][place] for name in ordered}
