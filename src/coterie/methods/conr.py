"""CoNR: each prediction is pulled to neighbours of its other view, found within the batch by re-ranking.

Yu, Shi and Wang, "Contextually Affinitive Neighborhood Refinery for Deep Clustering", NeurIPS 2023: its second stage.
The first is BYOL, `byol` here. Items near the border of two groups are left out at first; the groups are those of
spherical K-means on the teacher's projections, renewed before each epoch, and the last ones are the answer. Defaults
are the authors' CIFAR-10 configuration. Differs from the authors' code: the item at the cut is kept, so that in the end
all items are kept (theirs always leaves one of a batch out), and the teacher follows after the optimiser's step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from coterie.algorithms.schedules import rising_cosine, unhurried_cosine
from coterie.algorithms.spherical_groups import SphericalGroups, answer_by_teacher, teacher_rows
from coterie.common.bounds import AboveZero, BatchSize, BelowOne, Epochs, PositiveRate, Rate, Restarts, Share, Width
from coterie.contract import Card, Facts, OnlyIf, View, epochs_for, logged
from coterie.networks.heads import PrototypeHead, projector
from coterie.networks.net import Net, trainable
from coterie.networks.teacher import Teacher
from coterie.objectives.contrastive import embedding_std
from coterie.types import Batch, EpochStart, Features, InputError, Losses

WARM_UP = 0.05  # share of the whole training, before this stage, in which the rate rose

CARD = Card(
    title="CoNR",
    paper="Yu, Shi, Wang: Contextually Affinitive Neighborhood Refinery for Deep Clustering",
    year=2023,
    family="neighbours",
    url="https://arxiv.org/abs/2312.07806",
    starts_from="byol",
    starts_on=("images", "embeddings"),
    inherits=("project", "predict", "teacher"),
    answers=("project", "answer"),
    only_if=(OnlyIf("keep", lambda share: share < 1, ("keep_all_from",)),),
    of_photographs=("crop", "blur"),
    presets={"cifar10": {}},
    logs={
        "embedding_std": logged.EMBEDDING_STD,
        "kept": ("items that teach", "share that is not near the border of two groups; 1 from a quarter on"),
        "same_group": ("neighbours in the item's group", "share, by the K-means groups of the epoch"),
    },
)


@dataclass(frozen=True)
class CoNR:
    epochs: Epochs = 200  # those from 801 to 1000
    batch_size: BatchSize = 512  # neighbours are looked for within it
    # SGD; for 256 items a step, scaled in proportion to the batch: a tenth of a cosine from 0.05 at epoch 800
    learning_rate: PositiveRate = 7.3e-4
    weight_decay: Rate = 5e-4  # on all parameters, biases and norms included
    begun: BelowOne = 0.8  # share of the whole training before this stage: rate and momentum continue from there
    momentum: Share = 0.996  # of the teacher at the start of the whole training
    momentum_end: Share = 1.0  # and at its end, along a cosine
    neighbours: Width = 10  # to which a prediction is pulled, the item's other view among them
    lists: Width = 10  # k1: each item's most similar ones, which are the first sets of re-ranking
    passed_on: Width = 2  # k2: of these, whose sets each item adds to its own, twice; 1: none are added
    keep: AboveZero = 0.8  # share of a batch, the farthest from borders, that is learned from at the start
    keep_all_from: AboveZero = 0.25  # share of the epochs after which all items are learned from
    restarts: Restarts = 10  # of K-means
    projector_hidden: Width = 4096  # as in byol
    projector_out: Width = 256  # as in byol
    predictor_hidden: Width = 4096  # as in byol
    crop: AboveZero = 0.45  # smallest share of a photograph's area in a view
    blur: Share = 0.0  # chance, of photographs

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A batch that holds the neighbours, and no more of them than items."""
        most = max(self.neighbours, self.lists)
        items: tuple[int, int | None] = (1, facts.n)
        return {"batch_size": (min(most, facts.n), None), "neighbours": items, "lists": items, "passed_on": items}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        batch = min(self.batch_size, facts.n)
        for name in ("neighbours", "lists"):
            if getattr(self, name) > batch:
                raise InputError(
                    f"conr.{name} is {getattr(self, name)}: neighbours are looked for in a batch, of {batch} items "
                    f"(conr.batch_size is {self.batch_size})."
                )
        if self.passed_on > self.lists:
            raise InputError(
                f"conr.passed_on is {self.passed_on}: it must not be larger than conr.lists, {self.lists}."
            )

    def views(self) -> dict[str, View]:
        wanted = {"crop_scale": (self.crop, 1.0), "blur": self.blur}
        return {name: View("contrastive", settings=wanted) for name in ("one", "two")}

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """Projector, predictor and teacher of the stage before, the epoch's groups, and the head that answers."""
        project = projector(net.width, self.projector_hidden, self.projector_out, batch_norm=True)
        return {
            "project": project,
            "predict": projector(self.projector_out, self.predictor_hidden, self.projector_out, batch_norm=True),
            "teacher": Teacher(backbone=net.backbone, project=project),
            "groups": SphericalGroups(self.projector_out, k),
            "answer": PrototypeHead(self.projector_out, k, standardise=False),
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.project, net.predict)
        rate = self.learning_rate * self.batch_size / 256
        return torch.optim.SGD(trained, rate, momentum=0.9, weight_decay=self.weight_decay, fused=True)

    def whole(self, progress: float) -> float:
        """Progress of the whole training, of which this stage is the last part."""
        return self.begun + (1 - self.begun) * progress

    def rate(self, progress: float) -> float:
        """The end of a cosine over the whole training, as a share of its value where this stage begins."""
        begun = max(self.begun, WARM_UP)
        return unhurried_cosine(max(self.whole(progress), WARM_UP), WARM_UP) / unhurried_cosine(begun, WARM_UP)

    def kept_share(self, epoch: int) -> float:
        """Share of a batch that is learned from in this epoch, counted from 0."""
        return min(1.0, self.keep + (1 - self.keep) * (epoch + 1) / (self.keep_all_from * self.epochs))

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Spherical K-means on the teacher's projections of all items."""
        rows = teacher_rows(net, epoch.features)
        net.groups.renew(rows, epoch.generator, self.restarts)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Group-aware concordance (Eq. 7): 2 - 2 cos to the neighbours, over the kept items, both directions."""
        views = (batch.one, batch.two)
        with torch.no_grad():
            targets = [F.normalize(batch.gather(net.teacher.project(net.teacher.backbone(view)))) for view in views]
        projected = [net.project(net.backbone(view)) for view in views]
        predicted = [F.normalize(batch.gather(net.predict(rows))) for rows in projected]
        labels = batch.gather(net.groups.of(batch.index))
        batch.count(labels, len(net.groups.centres))
        share = self.kept_share(batch.number // batch.per_epoch)
        keeps, same, losses = [], [], []
        for own, keys in zip(predicted, reversed(targets), strict=True):
            found = contextual_neighbours(keys, self.lists, self.passed_on, self.neighbours)
            keep = far_from_borders(keys, net.groups.centres, labels, share)
            keeps.append(keep.float().mean())
            same.append((labels[found] == labels[:, None]).float().mean())
            losses.append(2 * (keeps[-1] - concordance(own, keys, found, keep)))
        batch.log(
            embedding_std=embedding_std(batch.gather(projected[0].detach())),
            kept=torch.stack(keeps).mean(),
            same_group=torch.stack(same).mean(),
        )
        yield {"concordance": torch.stack(losses).mean()}
        net.teacher.follow(net, rising_cosine(self.whole(batch.progress), self.momentum, self.momentum_end))

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """The teacher takes the net's place; spherical K-means on its projections is the answer."""
        answer_by_teacher(net, features, generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.answer(F.normalize(net.project(features)))}


def contextual_similarity(keys: Float[Tensor, "b d"], lists: int, passed_on: int) -> Float[Tensor, "b b"]:
    """How alike the sets of similar rows are (Eq. 3 to 5): 1 for rows that share them, 0 for none in common.

    Each row's set is its `lists` most similar rows; twice it is made mutual and then the sum of the sets of its
    `passed_on` most similar rows, weighed by the squared similarity. Rows have length 1.
    """
    similarity = keys @ keys.T
    ranked = similarity.clone().fill_diagonal_(torch.inf).topk(lists).indices  # a copy must not come before itself
    sets = torch.zeros_like(similarity).scatter_(1, ranked, 1.0)
    if passed_on > 1:
        nearest = ranked[:, :passed_on]
        weights = similarity.gather(1, nearest).square()
        for _ in range(2):
            sets = sets + sets.T
            sets = F.normalize((weights[:, :, None] * sets[nearest]).sum(1))
    return sets @ sets.T


def contextual_neighbours(keys: Float[Tensor, "b d"], lists: int, passed_on: int, count: int) -> Int[Tensor, "b m"]:
    """Each row's `count` most similar ones by context, itself first."""
    return contextual_similarity(keys, lists, passed_on).fill_diagonal_(torch.inf).topk(count).indices


def far_from_borders(
    keys: Float[Tensor, "b d"], centres: Float[Tensor, "k d"], labels: Int[Tensor, " b"], share: float
) -> Bool[Tensor, " b"]:
    """Mark this share of the rows: the smallest distances to the own centre relative to the next one (Eq. 8)."""
    distances = torch.cdist(keys, centres, compute_mode="donot_use_mm_for_euclid_dist")
    own = distances.gather(1, labels[:, None])
    ratio = own[:, 0] / distances.scatter(1, labels[:, None], torch.inf).amin(1)
    return ratio <= ratio.sort().values[max(1, int(share * len(ratio))) - 1]


def concordance(
    predicted: Float[Tensor, "b d"],
    keys: Float[Tensor, "b d"],
    neighbours: Int[Tensor, "b m"],
    keep: Bool[Tensor, " b"],
) -> Float[Tensor, ""]:
    """Mean over all b·m pairs of the cosine with a neighbour's key, 0 for rows that are not kept."""
    cosines = (predicted @ keys.T).gather(1, neighbours)
    return (cosines * keep[:, None]).mean()


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: slim heads as in `byol`, half of its epochs, a faster teacher and a higher rate.

    Of five pairs of rate and teacher the one with the lowest concordance loss on digits (no labels).
    """
    size = epochs_for(facts)
    return {
        **size,
        "epochs": max(1, size["epochs"] // 2),
        "learning_rate": 0.3,
        "momentum": 0.98,
        "momentum_end": 0.98,
        "projector_hidden": 512,
        "projector_out": 128,
        "predictor_hidden": 512,
    }
