"""FINCH: groups that hang together by first neighbours, merged to the number asked for. Nothing is trained.

Sarfraz, Sharma and Stiefelhagen, "Efficient Parameter-free Clustering Using First Neighbor Relations", CVPR 2019. The
algorithm is in `objectives/finch.py`. It groups the items' own values (pixels, embeddings), or with `--init` the
features of another run's backbone. The paper's FINCH can neither place new items nor say how sure it is; both are ours:
an item belongs to the group of the nearest mean of a fine level of the hierarchy, and the confidence falls with the
lead of that mean over those of other groups, scaled so that on average it is the share of the ten nearest neighbours
that are in an item's own group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.methods.contract import Card, Facts, Features
from coterie.networks.heads import steady_product
from coterie.networks.identity import own_values
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net
from coterie.objectives.finch import exactly, group_means, hierarchy
from coterie.objectives.neighbours import Metric, comparable, nearest
from coterie.types import Batch, InputError, ItemSpec, Losses

MOST_MEANS = 16_384  # that a model keeps: 51 MB for 28-pixel grey images
MOST_PIXELS = 3 * 64 * 64
NEIGHBOURS = 10  # whose groups tell how sure an item's is
JUDGED = 2000  # items that the confidence is scaled on


def own_backbone(spec: ItemSpec, device: str, as_published: bool) -> str:
    """No network. Raises InputError for images of too many pixels, whose single values mean little anyway."""
    if spec.channels * spec.height * spec.width > MOST_PIXELS:
        raise InputError(
            f"FINCH groups images by their pixels, and {spec.height}×{spec.width} are too many: give it the features "
            "of another run by --init RUN or of a backbone by --backbone NAME, or smaller images by --image-size 64."
        )
    return "identity"


CARD = Card(
    title="FINCH",
    paper="Sarfraz, Sharma, Stiefelhagen: Efficient Parameter-free Clustering Using First Neighbor Relations",
    year=2019,
    family="hierarchical",
    url="https://arxiv.org/abs/1902.11266",
    views={"clean": "clean"},
    backbone=own_backbone,
)


@dataclass(frozen=True)
class FINCH:
    epochs: int = 0  # it is not trained
    distance: Metric = "cosine"  # of the items' own values; Euclidean: of the normalised ones
    early_exit: bool = True  # a group farther off than any first neighbour was at the start is not merged by a link

    card: ClassVar[Card] = CARD

    @property
    def batch_size(self) -> int:
        return 2

    @property
    def part_size(self) -> int:
        return 2

    def check(self, facts: Facts) -> None:
        if self.epochs != 0:
            raise InputError(f"finch.epochs is {self.epochs}, but FINCH is not trained: leave it at 0.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        return {"groups": NearestMean(net.width, k, self.distance)}

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Nothing to prepare."""

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": []}], lr=0.0)

    def rate(self, progress: float) -> float:
        return 1.0

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Never taken."""
        yield from ()

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        rows = self.rows(net, features())
        levels = hierarchy(rows, self.distance, early_exit=self.early_exit)
        labels = exactly(rows, levels, k, self.distance)
        fine = next((level for level in [*levels, labels] if k <= int(level.max()) + 1 <= MOST_MEANS), labels)
        net.groups.place(rows, fine, labels, agreement(rows, labels, self.distance))

    def rows(self, net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """What is grouped: angles depend on where 0 lies, so for them the normalisation of the items is undone."""
        return own_values(net, features) if self.distance == "cosine" else features

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {name: z.softmax(1) for name, z in self.logits(net, features).items()}

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"finch": net.groups(self.rows(net, features))}


def practical(facts: Facts) -> dict[str, Any]:
    """Angles between short vectors of unlike measurements mean little: those take the distance of normalised ones."""
    return {"distance": "euclidean"} if facts.kind == "embeddings" and facts.dim < 64 else {}


class NearestMean(nn.Module):
    """logit_k = -d²/(2 s²), d the distance to the nearest mean of group k; each group has one mean or several."""

    scale: Tensor

    def __init__(self, width: int, k: int, metric: Metric) -> None:
        super().__init__()
        self.k, self.metric = k, metric
        self.means = ItemTable(width + (metric == "cosine"))  # one dimension more, for rows of zeros
        self.group = ItemTable(1)
        self.register_buffer("scale", torch.ones(()))  # 2 s²

    @torch.no_grad()
    def place(
        self, rows: Float[Tensor, "n d"], fine: Int[Tensor, " n"], labels: Int[Tensor, " n"], confidence: float
    ) -> None:
        """Keep the means of the groups `fine`, each within one of `labels`, and give `rows` this mean confidence."""
        self.means.fill(comparable(group_means(rows, fine), self.metric, zeros=True))
        group = torch.zeros(int(fine.max()) + 1, 1, device=rows.device)
        group[fine, 0] = labels.float()
        self.group.fill(group)
        some = torch.linspace(0, len(rows) - 1, min(len(rows), JUDGED), dtype=torch.float64).round().long()
        self.scale.copy_(scale_for(self.squared_distances(rows[some]), confidence))

    def squared_distances(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """To the nearest mean of every group."""
        x, means = comparable(rows, self.metric, zeros=True), self.means.rows
        norms = x.square().sum(1, keepdim=True) + means.square().sum(1)
        squared = (norms - 2 * steady_product(x, means)).clamp(min=0)
        group = self.group.rows.long().T.expand_as(squared)
        return squared.new_full((len(rows), self.k), torch.inf).scatter_reduce(1, group, squared, "amin")

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return -self.squared_distances(rows) / self.scale


def scale_for(squared: Float[Tensor, "n k"], confidence: float) -> Float[Tensor, ""]:
    """The scale at which softmax(-squared / scale) has this mean top-1 probability, by bisection of its logarithm.

    At most 16 times the mean lead of the nearest over the others: a flatter softmax would not tell them apart at last.
    """
    lead = (squared - squared.amin(1, keepdim=True)).double()
    middle = lead.mean().clamp(min=1e-12)
    low, high = -30.0, 4.0
    for _ in range(60):
        log_scale = (low + high) / 2
        sure = float((1 / (-lead / (middle * 2.0**log_scale)).exp().sum(1)).mean())
        low, high = (log_scale, high) if sure > confidence else (low, log_scale)
    return (middle * 2.0**low).float()


def agreement(points: Float[Tensor, "n d"], labels: Int[Tensor, " n"], metric: Metric) -> float:
    """The share of nearest neighbours that are in an item's own group, never quite 0 or 1 (Laplace's rule).

    Ten of them, or half an average group where that is less, so that all of them may be in it.
    """
    n = len(points)
    k = max(1, min(NEIGHBOURS, n // (2 * (int(labels.max()) + 1))))
    some = torch.linspace(0, n - 1, min(n, JUDGED), dtype=torch.float64).round().long().to(points.device)
    found = nearest(points, k + 1, points[some], metric)[1]
    others = found != some[:, None]
    same = ((labels[found] == labels[some][:, None]) & others).sum()
    return (float(same) + 1) / (float(others.sum()) + 2)
