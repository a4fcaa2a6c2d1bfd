"""SCAN-2: an item and one of its nearest neighbours should be in the same group, and groups should be of equal size.

Van Gansbeke, Vandenhende, Georgoulis, Proesmans and Van Gool, "SCAN: Learning to Classify Images without Labels", ECCV
2020: its clustering step. The neighbours are those of the pre-trained backbone, which comes from `moco` (the authors:
SimCLR; `--pretrain`). Defaults are the authors' CIFAR-10 configuration. Self-labelling, which follows in the paper, is
the method `scan3`. Differs from the authors' code: the last epoch is reported (theirs keeps the epoch of lowest loss
on held-out images), the head is chosen on the items that are grouped, and log p·p is taken by logsumexp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.neighbours import neighbour_lists
from coterie.common.bounds import BatchSize, Copies, Epochs, PositiveRate, Rate, Weight, Width
from coterie.contract import Card, Facts, OnlyIf, Pass, View, iterations_for
from coterie.contract.logged import CONFIDENCE
from coterie.networks.heads import SteadyLinear, mlp_head
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.objectives.information import negative_mean_entropy
from coterie.types import Batch, Features, InputError, Losses

# What a view changes in its recipe. The authors' crop of the strong view keeps images of the net's own size whole.
DISTORTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "strong": ("strong", {"crop_scale": (1.0, 1.0)}),
    "contrastive": ("contrastive", {"crop_scale": (0.2, 1.0), "blur": 0.0}),
    "none": ("clean", {}),
}
IMAGENET = {
    "epochs": 100,
    "batch_size": 1024,
    "neighbours": 50,
    "tries": 10,
    "distortion": "contrastive",
    "frozen": True,
    "solver": "sgd",
    "learning_rate": 5.0,
    "weight_decay": 0.0,
    "image_size": 224,
}

CARD = Card(
    title="SCAN-2",
    paper="Van Gansbeke, Vandenhende, Georgoulis, Proesmans, Van Gool: "
    "SCAN: Learning to Classify Images without Labels",
    year=2020,
    family="neighbours",
    url="https://arxiv.org/abs/2005.12320",
    views={"anchor": "strong", "neighbour": View("strong", of="neighbour")},
    starts_from="moco",
    gives=("cluster",),
    answers=("cluster",),
    balance="entropy_weight",
    only_if=(OnlyIf("head", lambda head: head == "mlp", ("hidden",)),),
    of_one_group=("neighbours",),
    presets={
        "cifar10": {},
        "cifar20": {"epochs": 100, "batch_size": 512},
        "stl10": {"epochs": 100, "views.cutout": 32, "image_size": 96},
        "imagenet50": {**IMAGENET, "batch_size": 512},
        "imagenet100": IMAGENET,
        "imagenet200": IMAGENET,
    },
    logs={
        "confidence": CONFIDENCE,
        "agreement": ("pairs that agree", "share of neighbours that are put into the item's group"),
    },
)


@dataclass(frozen=True)
class SCAN:
    epochs: Epochs = 50
    batch_size: BatchSize = 128  # groups are balanced within a batch
    neighbours: Width = 20  # of each item, beside the item itself, which may be drawn as well
    entropy_weight: Weight = 5.0  # lambda, keeps groups of equal size; if it is too low for many groups, some merge
    tries: Copies = 1  # heads trained side by side; the one of lowest loss, by lambda = 1, answers
    head: Literal["linear", "mlp"] = "linear"  # mlp: CDC's
    hidden: Width = 512  # width of the mlp
    distortion: Literal["strong", "contrastive", "none"] = "strong"  # of the item and of its neighbour
    frozen: bool = False  # train the heads only, on the features as the pre-training left them
    solver: Literal["adam", "sgd"] = "adam"  # sgd: with momentum 0.9
    learning_rate: PositiveRate = 1e-4  # constant
    weight_decay: Rate = 1e-4

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A batch that can hold an item of each group, and no more neighbours than other items."""
        return {"batch_size": (facts.k, None), "neighbours": (1, facts.n - 1)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.neighbours >= facts.n:
            raise InputError(
                f"scan.neighbours is {self.neighbours}: of {facts.n} items each has at most {facts.n - 1} neighbours."
            )

    def views(self) -> dict[str, View]:
        recipe, settings = DISTORTIONS[self.distortion]
        return {"anchor": View(recipe, settings), "neighbour": View(recipe, settings, of="neighbour")}

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(partners={"neighbour": "neighbours"}),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The head that answers, the others tried beside it, and each item's neighbours."""
        first, *others = (self.fresh_head(net.width, k) for _ in range(self.tries))
        table = ItemTable(self.neighbours + 1, torch.int32)
        return {"cluster": first, "others": nn.ModuleList(others), "neighbours": table}

    def fresh_head(self, width: int, k: int) -> nn.Module:
        return mlp_head(width, self.hidden, k) if self.head == "mlp" else SteadyLinear(width, k)

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Find each item's neighbours by the features before this training; they are not renewed."""
        net.neighbours.fill(neighbour_lists(features(), self.neighbours))

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(*([] if self.frozen else [net.backbone]), net.cluster, net.others)
        if self.solver == "sgd":
            return torch.optim.SGD(
                trained, self.learning_rate, momentum=0.9, weight_decay=self.weight_decay, fused=True
            )
        return torch.optim.Adam(trained, self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The sum over heads of the pairs' disagreement and the groups' inequality, over the global batch."""
        # Two passes, as in the authors' code: items and neighbours are normalised by statistics of their own.
        anchors, neighbours = self.features(net, batch.anchor), self.features(net, batch.neighbour)
        pairs = [(batch.gather(head(anchors)), batch.gather(head(neighbours))) for head in heads_of(net)]
        apart = torch.stack([disagreement(*pair).mean() for pair in pairs])
        unequal = torch.stack([negative_mean_entropy(own) for own, _ in pairs])
        self.record(batch, pairs, apart.detach() + unequal.detach())
        yield {"consistency": apart.sum(), "entropy": self.entropy_weight * unequal.sum()}
        if len(pairs) > 1 and batch.number + 1 == self.epochs * batch.per_epoch:
            choose_head(net, batch.all_features())

    def features(self, net: Net, view: Tensor) -> Float[Tensor, "b d"]:
        """The features to train on; with `frozen` in evaluation mode and without gradient."""
        if not self.frozen:
            return net.backbone(view)
        net.backbone.eval()
        with torch.no_grad():
            return net.backbone(view)

    def record(self, batch: Batch, pairs: list[tuple[Tensor, Tensor]], losses: Float[Tensor, " h"]) -> None:
        """Groups and confidences of the head that is best in this batch."""
        best = losses.argmin()
        own, others = (torch.stack(logits)[best].detach() for logits in zip(*pairs, strict=True))
        label = batch.record_answers(own.softmax(1))
        batch.log(agreement=(label == others.argmax(1)).float().mean())

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.cluster(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: fewer steps at a higher rate, neighbour lists no longer than a small group.

    No distortion is known to keep the meaning of embeddings, so their neighbours alone are the views.
    """
    steps = iterations_for(facts, 500, 4_000)
    return {
        "epochs": steps["epochs"],
        "batch_size": max(steps["batch_size"], facts.k),
        "neighbours": max(1, min(20, facts.n // (4 * max(1, facts.k)))),
        "tries": 5 if facts.kind == "embeddings" else 1,
        "distortion": "none" if facts.kind == "embeddings" else "strong",
        "learning_rate": 1e-3,
    }


def disagreement(own: Float[Tensor, "n k"], others: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """-log of the probability, from logits, that both items of a pair are in one group: 0 for equal one-hot answers.

    (.8, .2) and (.6, .4) give -ln .56 = .5798. By logsumexp, so that a pair that is surely apart has a gradient.
    """
    return -(F.log_softmax(own.float(), dim=1) + F.log_softmax(others.float(), dim=1)).logsumexp(dim=1)


def heads_of(net: Net) -> list[nn.Module]:
    return [net.cluster, *net.others]


@torch.no_grad()
def choose_head(net: Net, features: Float[Tensor, "n d"]) -> None:
    """Let the head answer that has the lowest loss over all items and their neighbours, with an entropy weight of 1."""
    heads = heads_of(net)
    losses = []
    for head in heads:
        head.eval()
        logits = head(features)
        head.train()
        losses.append(float(choice_loss(logits, net.neighbours.rows)))
    best = min(range(len(heads)), key=losses.__getitem__)
    net.cluster.load_state_dict(heads[best].state_dict())


def choice_loss(logits: Float[Tensor, "n k"], neighbours: Int[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Mean disagreement of all items with those of their lists, less the entropy of the mean answer."""
    apart = [disagreement(logits, logits[column.long()]).mean() for column in neighbours.T]
    return torch.stack(apart).mean() + negative_mean_entropy(logits)
