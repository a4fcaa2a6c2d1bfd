"""Groups of all items by the direction of their embeddings, renewed between epochs: pseudo-labels of a training."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.networks.heads import PrototypeHead
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net
from coterie.networks.unit import unit_rows
from coterie.types import Features


class SphericalGroups(nn.Module):
    """Each item's group by spherical K-means, and the groups' centres (k, width) of length 1.

    Every renewal numbers the groups anew, so a group's number means nothing after it.
    """

    centres: Tensor

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.labels = ItemTable(1, torch.int32)
        self.register_buffer("centres", torch.zeros(k, width))

    @torch.no_grad()
    def renew(self, rows: Float[Tensor, "n d"], generator: torch.Generator, restarts: int) -> None:
        """Group all items, in the order of the source."""
        found = kmeans(rows, len(self.centres), generator=generator, restarts=restarts, spherical=True)
        self.labels.fill(found.labels[:, None])
        self.centres.copy_(found.centres)

    def of(self, index: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The groups of these items."""
        return self.labels.of(index)[:, 0].long()

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, " m"]:
        """`count` rows, with replacement, each group as likely as any other: a `sample` of a pass."""
        labels = self.labels.rows[:, 0].long().cpu()
        weights = 1 / labels.bincount(minlength=len(self.centres)).double()
        return torch.multinomial(weights[labels], count, replacement=True, generator=generator)


def teacher_rows(net: Net, features: Features) -> Float[Tensor, "n d"]:
    """The teacher's projections of all items."""
    return features(by=nn.Sequential(net.teacher.backbone, net.teacher.project))


def answer_by_teacher(net: Net, features: Features, generator: torch.Generator, restarts: int) -> None:
    """Let the teacher take the net's place, and `net.answer` be spherical K-means on its projections."""
    place_directions(net.answer, teacher_rows(net, features), generator, restarts)
    net.teacher.take_over(net)


def place_directions(
    head: PrototypeHead, rows: Float[Tensor, "n d"], generator: torch.Generator, restarts: int
) -> None:
    """Set the centres and variance of a head without standardisation by spherical K-means.

    The head must be given rows of length 1, for which the nearest centre is the one of the largest cosine.
    """
    found = kmeans(rows, len(head.centres), generator=generator, restarts=restarts, spherical=True)
    head.place(found.centres, unit_rows(rows), found.labels)
