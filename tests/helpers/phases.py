"""A small net, data and batches for the methods that go on from an auto-encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from coterie.contract import Step, begin_epoch, optimisers_of, start
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.types import Batch, EpochStart, Features, ItemSpec, Losses
from helpers.batches import batch_of_views

SPEC, K = ItemSpec("embeddings", dim=12), 3
DATA = torch.rand(40, 12, generator=torch.Generator().manual_seed(5))


def net_of(method: Any, *, spread: float = 1.0) -> Net:
    """A net at the start of the method; with a `spread` of 30 its codes lie as far apart as trained ones do."""
    torch.manual_seed(0)
    net = Net(build_backbone("ae", SPEC), SPEC, torch.zeros(12), torch.ones(12), half=False)
    net.add(method.heads(net, K))
    with torch.no_grad():
        net.backbone.trunk.code.weight.mul_(spread)
    start(method, net, features_of(net), K, torch.Generator().manual_seed(0))
    return net.train()


def features_of(net: Net) -> Features:
    return lambda half=False, by=None, most=None: net.backbone(DATA)[:most].detach()


def steps(method: Any, net: Net, batch: Batch) -> Iterator[Losses]:
    """The losses of each optimiser step of a batch, after the begin of the epoch whose first batch it is."""
    begin(method, net, batch)
    for step in method.step(net, batch):
        yield step.losses if isinstance(step, Step) else step


def begin(method: Any, net: Net, batch: Batch) -> None:
    """What the engine does before an epoch whose first batch this is; none where it is another."""
    if batch.number % batch.per_epoch == 0:
        number = batch.number // batch.per_epoch
        epoch = EpochStart(number, features_of(net), torch.Generator().manual_seed(number))
        begin_epoch(method, net, epoch)
        batch.log(**epoch.logged)
        batch.ended = epoch.ended


def touched_by_step(method: Any, net: Net, batch: Batch) -> list[set[str]]:
    """For each optimiser step of a batch the parts of the net that it changes."""
    begin(method, net, batch)
    optimisers, found = optimisers_of(method, net), []
    for step in method.step(net, batch):
        losses, names = (step.losses, step.trains) if isinstance(step, Step) else (step, ())
        chosen = [optimisers[name] for name in names or optimisers]
        trained = {id(p) for one in chosen for group in one.param_groups for p in group["params"]}
        net.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward(retain_graph=True)
        moved = [(name, p) for name, p in net.named_parameters() if id(p) in trained and p.grad is not None]
        found.append({name.split(".")[0] for name, p in moved if bool(p.grad.any())})
    return found


def batch_of(net: Net, number: int = 0, shifted: Tensor | None = None, per_epoch: int = 2) -> Batch:
    index = torch.arange(16)
    views = {"shifted": DATA[index] if shifted is None else shifted, "clean": DATA[index]}
    return batch_of_views(
        views,
        progress=0.5,
        generator=torch.Generator().manual_seed(number),
        number=number,
        per_epoch=per_epoch,
        features=features_of(net),
    )


def touched(net: Net, losses: dict[str, Tensor]) -> set[str]:
    """Names of the parts of the net that a gradient of these losses reaches."""
    net.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
