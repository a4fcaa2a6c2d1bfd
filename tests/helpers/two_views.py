"""A small net and a batch of the views `one` and `two`, for the tests of methods that compare two views of an item."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.contract import Method
from coterie.networks.net import Net
from coterie.types import Batch, ItemSpec
from helpers.batches import batch_of_views

DIM, WIDTH, SIZE = 6, 10, 8
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])  # of SIZE items


class Trunk(nn.Module):
    num_features = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(DIM, WIDTH), nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x)).relu()


def net_of(method: Method, k: int = 3) -> Net:
    torch.manual_seed(0)
    net = Net(Trunk(), ItemSpec("embeddings", dim=DIM), torch.zeros(DIM), torch.ones(DIM), half=False)
    net.add(method.heads(net, k))
    return net.train()


def grouped(method: Method) -> Net:
    """The net of a method that goes on from groups: those of `LABELS`, with some centres where it keeps them."""
    net = net_of(method)
    net.groups.labels.fill(LABELS[:, None])
    if hasattr(net.groups, "centres"):
        net.groups.centres.copy_(F.normalize(waves(*net.groups.centres.shape, start=1.0)))
    return net


def batch_at(progress: float = 0.0) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = {"one": torch.randn(SIZE, DIM, generator=generator), "two": torch.randn(SIZE, DIM, generator=generator)}
    return batch_of_views(views, progress=progress, generator=generator)


def waves(*shape: int, start: float) -> Tensor:
    """Numbers that every machine has alike, for which other code gave its answers: sin(0.7 i + start)."""
    count = int(torch.tensor(shape).prod())
    return (torch.arange(count, dtype=torch.float64) * 0.7 + start).sin().view(*shape).float()


def blobs(k: int = 3, each: int = 20) -> Tensor:
    """Features (k · each, WIDTH) of k groups far apart; row i is of group i modulo k."""
    generator = torch.Generator().manual_seed(3)
    centres = 5 * torch.randn(k, WIDTH, generator=generator)
    return centres.repeat(each, 1) + torch.randn(k * each, WIDTH, generator=generator)


def touched(net: Net) -> set[str]:
    """The parts of the net that a gradient has reached."""
    found = {name for name, p in net.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)}
    return {name.split(".")[0] for name in found}


class Fixed(nn.Module):
    """Answers with the given rows, one after the other, whatever it is asked."""

    def __init__(self, *rows: Tensor) -> None:
        super().__init__()
        self.rows = list(rows)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows.pop(0)


def slow_distances(net: Net) -> float:
    """Of predictions and the teacher's projections of the other view, an item at a time: the squared distance of unit
    vectors, both directions summed, the mean over the items."""
    batch, total = batch_at(), 0.0
    with torch.no_grad():
        said = [net.predict(net.project(net.backbone(view))) for view in (batch.one, batch.two)]
        targets = [net.teacher.project(net.teacher.backbone(view)) for view in (batch.one, batch.two)]
    for own, other in ((0, 1), (1, 0)):
        for p, z in zip(said[own], targets[other], strict=True):
            total += float((p / p.norm() - z / z.norm()).square().sum()) / SIZE
    return total
