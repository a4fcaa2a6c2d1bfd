"""TCC: contrasts groups, as sums of their items, and items together with a drawn group.

Shen, Shen, Wang, Qin, Torr and Shao, "You Never Cluster Alone", NeurIPS 2021. The authors published no code; what
the paper leaves open is a setting here, and docs/methods/tcc.md gives the source of each number. This is a reading of
the paper, not a reproduction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Epochs, Memory, Positive, PositiveRate, Rate, Share, Width
from coterie.contract import Card, Facts, View, epochs_for, logged
from coterie.networks.heads import Centres, mlp_head, steady_product
from coterie.networks.net import Net, trainable
from coterie.networks.queue import Queue
from coterie.networks.teacher import Teacher
from coterie.objectives.contrastive import embedding_std, info_nce
from coterie.types import Batch, InputError, Losses

VIEW = View("contrastive", {"crop_scale": (0.2, 1.0), "blur": 0.0})  # as in MoCo's first version
SMALLEST = 1e-6  # bound of the uniform numbers for Gumbel noise, from 0 and from 1

CARD = Card(
    title="Twin-Contrast Clustering",
    paper="Shen, Shen, Wang, Qin, Torr, Shao: You Never Cluster Alone",
    year=2021,
    family="contrastive",
    url="https://arxiv.org/abs/2106.01908",
    views={"one": VIEW, "two": VIEW},
    answers=("embed", "prototypes"),
    presets={
        "cifar10": {},
        "cifar20": {"batch_size": 640},
        "stl10": {"image_size": 96},
        "imagenet10": {"image_size": 224},
        "imagenet-dogs": {"image_size": 224, "batch_size": 480},
    },
    logs={
        "smallest": ("share of the smallest group", "in a batch, by probabilities; no term holds it up"),
        "confidence": logged.CONFIDENCE,
        "agreement": ("views that agree", "share of items that the teacher puts into the same group"),
        "embedding_std": logged.EMBEDDING_STD,
    },
)


@dataclass(frozen=True)
class TCC:
    epochs: Epochs = 1000
    batch_size: BatchSize = 320  # 32 for each group, so that every one is in it
    learning_rate: PositiveRate = 1e-3  # Adam, constant
    weight_decay: Rate = 0.0
    alpha: Share = 0.5  # weight of the groups' contrast; the items' contrast has the rest
    temperature: Positive = 1.0  # of both contrasts
    sharpness: Positive = 1.0  # divisor of the cosines of items and prototypes before the softmax
    gumbel: Positive = 0.3  # temperature of the drawn assignments; towards 0 they become one-hot
    momentum: Share = 0.999  # of the teacher
    queue: Memory = 16384  # items of other batches that serve as negatives
    bank: Memory = 20  # former representations of each group that serve as negatives
    jiggle: Rate = 0.1  # deviation of the noise on these
    hidden: Width = 512
    out: Width = 128

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A batch that can hold each group, and a queue that holds a batch, and no item twice if that is all items."""
        most = facts.n if self.batch_size == facts.n else None
        return {"batch_size": (facts.k, None), "queue": (self.batch_size, most)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.queue < self.batch_size:
            raise InputError(f"tcc.queue is {self.queue}: it must hold at least one batch of {self.batch_size} items.")

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """Embedding, prototypes, the map of groups into the embedding, a teacher of all these, the queues."""
        prototypes = Centres(self.out, k)
        prototypes.place(far_apart(k, self.out))
        embed = mlp_head(net.width, self.hidden, self.out).append(fixed_norm(self.out))
        joined = nn.Linear(k, self.out, bias=False)
        nn.init.zeros_(joined.weight)  # first contrast items by themselves, since draws mean nothing yet
        return {
            "embed": embed,
            "prototypes": prototypes,
            "joined": joined,
            "teacher": Teacher(backbone=net.backbone, embed=embed, prototypes=prototypes, joined=joined),
            "items": Queue(self.queue, self.out),
            "groups": Queue(self.bank * k, self.out),  # k rows a step in their order: row j is of group j modulo k
        }

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.embed, net.prototypes, net.joined)
        return torch.optim.Adam(trained, self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Groups of view one against those of view two by the teacher, and its items likewise."""
        own = batch.gather(F.normalize(net.embed(net.backbone(batch.one))))
        with torch.no_grad():
            other = batch.gather(F.normalize(net.teacher.embed(net.teacher.backbone(batch.two))))
            other_logits = self.by_prototypes(net.teacher.prototypes, other)
            other_drawn = self.drawn(other_logits, batch.generator)
            other_items = F.normalize(other + net.teacher.joined(other_drawn))
            other_groups = group_vectors(other_drawn, other)
            noise = self.jiggle * torch.randn(net.groups.rows.shape, generator=batch.generator)
            bank = F.normalize(net.groups.rows + noise.to(own))
        logits = self.by_prototypes(net.prototypes, own)
        drawn = self.drawn(logits, batch.generator)
        items = F.normalize(own + net.joined(drawn))
        divergence = F.kl_div(
            other_logits.log_softmax(1), logits.log_softmax(1), reduction="batchmean", log_target=True
        )
        self.record(batch, own.detach(), logits.detach(), other_logits)
        yield {
            "groups": self.alpha * group_contrast(group_vectors(drawn, own), other_groups, bank, self.temperature),
            "items": (1 - self.alpha) * info_nce(items, other_items, net.items.rows, self.temperature),
            "divergence": (1 - self.alpha) * divergence,
        }
        net.items.push(other_items)
        net.groups.push(other_groups)
        net.teacher.follow(net, self.momentum)

    def by_prototypes(self, prototypes: nn.Module, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """The cosines of normalised rows and prototypes, over `sharpness`: logits of the groups."""
        return steady_product(rows, F.normalize(prototypes.get_parameter("centres"))) / self.sharpness

    def drawn(self, logits: Float[Tensor, "b k"], generator: torch.Generator) -> Float[Tensor, "b k"]:
        """A soft draw of each item's group (Gumbel-softmax); the generator's numbers are the same in every process."""
        uniform = torch.rand(logits.shape, generator=generator).clamp(SMALLEST, 1 - SMALLEST)
        return ((logits - (-uniform.log()).log().to(logits)) / self.gumbel).softmax(1)

    def record(self, batch: Batch, rows: Tensor, logits: Float[Tensor, "b k"], other: Float[Tensor, "b k"]) -> None:
        """Groups and confidences of the batch, and how far its two views agree."""
        p = logits.softmax(1)
        confidence, label = p.max(1)
        agreement = (label == other.argmax(1)).float().mean()
        batch.log(embedding_std=embedding_std(rows), smallest=p.mean(0).min())
        batch.log(confidence=confidence.mean(), agreement=agreement)
        batch.count(label, p.shape[1])
        batch.count_confidences(confidence)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        """Logits without a draw."""
        return {"softmax": self.by_prototypes(net.prototypes, F.normalize(net.embed(features)))}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: few epochs, a queue that holds no item twice, a faster teacher.

    Both softmaxes are sharper: by plain cosines no answer of ten groups could be surer than 0.25.
    """
    size = epochs_for(facts)
    batch = max(size["batch_size"], facts.k)
    return {
        "epochs": size["epochs"],
        "batch_size": batch,
        "queue": max(batch, min(8192, facts.n // 2) // batch * batch),
        "momentum": 0.99,
        "temperature": 0.2,
        "sharpness": 0.1,
    }


def fixed_norm(width: int) -> nn.BatchNorm1d:
    """Batch normalisation without scale and shift: the items of a batch then lie around 0, and not near one prototype.

    Without it all items begin in one group, and no term separates them.
    """
    norm = nn.BatchNorm1d(width)
    norm.requires_grad_(False)  # fixed at 1 and 0: a norm without them would not be shared among processes
    return norm


def group_vectors(drawn: Float[Tensor, "b k"], rows: Float[Tensor, "b d"]) -> Float[Tensor, "k d"]:
    """Each group's sum of its items, scaled to length 1; of one-hot draws the direction of the group's mean."""
    return F.normalize(drawn.T @ rows)


def group_contrast(
    own: Float[Tensor, "k d"], other: Float[Tensor, "k d"], bank: Float[Tensor, "m d"], temperature: float
) -> Float[Tensor, ""]:
    """Which of all vectors is the same group in the other view? All rows of length 1.

    The others are the other groups of both views and of the bank, whose row j is of group j modulo k; former vectors of
    the group itself are left out.
    """
    k = len(own)
    itself = torch.eye(k, dtype=torch.bool, device=own.device)
    former: Int[Tensor, " m"] = torch.arange(len(bank), device=own.device) % k
    said = torch.cat(
        [
            own @ other.T,
            (own @ own.T).masked_fill(itself, -torch.inf),
            (own @ bank.T).masked_fill(former == torch.arange(k, device=own.device)[:, None], -torch.inf),
        ],
        dim=1,
    )
    return F.cross_entropy(said / temperature, torch.arange(k, device=own.device))


def far_apart(k: int, d: int) -> Float[Tensor, "k d"]:
    """k unit vectors with the same cosine, -1/(k-1), for any two, turned at random; random ones where d is below k."""
    if d < k:
        return F.normalize(torch.randn(k, d))
    turned, _ = torch.linalg.qr(torch.randn(d, k))
    return F.normalize(torch.eye(k) - 1 / k) @ turned.T
