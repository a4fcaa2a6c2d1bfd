"""A small net, data and batches for the methods that go on from an auto-encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coterie.contract import Step, start
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.types import Batch, EpochStart, Features, ItemSpec, OneProcess

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
    return lambda half=False, by=None: net.backbone(DATA).detach()


def epoch_of(net: Net, number: int = 0) -> EpochStart:
    return EpochStart(number, features_of(net), torch.Generator().manual_seed(number))


def losses_of(net: Net, method: Any, batch: Batch) -> list[Any]:
    """The losses of each optimiser step of a batch."""
    return [step.losses if isinstance(step, Step) else step for step in method.step(net, batch)]


def batch_of(net: Net, number: int = 0, shifted: Tensor | None = None, per_epoch: int = 2) -> Batch:
    index = torch.arange(16)
    views = {"shifted": DATA[index] if shifted is None else shifted, "clean": DATA[index]}
    return Batch(
        index,
        views,
        part_size=16,
        progress=0.5,
        generator=torch.Generator().manual_seed(number),
        share=OneProcess(),
        number=number,
        per_epoch=per_epoch,
        features=features_of(net),
    )


def touched(net: Net, losses: dict[str, Tensor]) -> set[str]:
    """Names of the parts of the net that a gradient of these losses reaches."""
    net.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
