"""SPICE-2: the surest items of a group are its prototype, and the items nearest to it are given its label.

Niu, Shan and Wang, "SPICE: Semantic Pseudo-labeling for Image Clustering", IEEE TIP 2022: its step SPICE-Self, on the
frozen features that `moco` leaves (`--pretrain` for another). Defaults are the authors' CIFAR-10 configuration. The
semi-supervised step that follows in the paper is the method `spice3`. Differs from the authors' code: the backbone's
running statistics stay as they are (`drift` for theirs), so features are computed once a round. In both, the head
that answers is of the epoch of lowest loss; theirs also saves the one of best accuracy, by labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from coterie.common.bounds import AboveZero, BatchSize, Copies, Epochs, PositiveRate, Width
from coterie.contract import Card, Facts, View
from coterie.contract.logged import CONFIDENCE
from coterie.networks.heads import mlp_head
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, trainable
from coterie.types import Batch, Features, InputError, Losses
from coterie.views import fixmatch

CHUNK = 65_536  # items in one pass of a head when the best is chosen
PIECE = 512  # items of a round in one pass of the backbone
NUMBERS = 2**26  # values in a view of a round, by the practical preset: 256 MB
LARGE = {"epochs": 100, "views.cutout": 32, "image_size": 224}

CARD = Card(
    title="SPICE-2",
    paper="Niu, Shan, Wang: SPICE: Semantic Pseudo-labeling for Image Clustering",
    year=2022,
    family="pseudo-label",
    url="https://arxiv.org/abs/2103.09382",
    views={"weak": "weak", "strong": "strong"},  # by their names; see `SPICE.views`
    starts_from="moco",
    gives=("cluster",),
    answers=("cluster",),
    presets={
        "cifar10": {},
        "cifar20": {"epochs": 100, "batch_size": 10_000},
        "stl10": {**LARGE, "image_size": 96},
        "imagenet10": LARGE,
        "imagenet-dogs": {**LARGE, "batch_size": 8000},
    },
    logs={
        "confidence": CONFIDENCE,
        "labelled": ("labelled share", "items that are near enough to a group's surest to get its label"),
        "choice_loss": ("loss of the best head", "by which it is chosen, on all items"),
    },
)


@dataclass(frozen=True)
class SPICE:
    epochs: Epochs = 30  # 100 beyond CIFAR-10
    batch_size: BatchSize = 5000  # M, items that are labelled together in a round; an epoch has N / M rounds
    repeats: Width = 8  # passes over the labelled items of a round
    part: BatchSize = 128  # labelled items of one optimiser step, for each head
    tries: Copies = 10  # heads, each with its own labels; the one of lowest loss answers
    hidden: Width = 512
    share: AboveZero = 0.5  # share of an equal group: this many of its surest items are its prototype
    kept: Literal["lowest", "last"] = "lowest"  # the answering head is from the epoch of lowest loss, or the last
    distorted: bool = True  # false: the items as they are in both views
    drift: bool = False  # the backbone's running statistics follow the strong views, as in the authors' code
    learning_rate: PositiveRate = 0.005  # Adam, constant

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A round in which each group labels an item."""
        return {"batch_size": (facts.k, None)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if self.batch_size < facts.k:
            raise InputError(
                f"spice.batch_size is {self.batch_size}: with {facts.k} groups it must be at least {facts.k}."
            )

    def views(self) -> dict[str, View]:
        """Weak: shifted and flipped. Strong: SCAN's operations and hole; the authors' crop keeps the whole image."""
        if not self.distorted:
            return {"weak": View("clean"), "strong": View("clean")}
        return {"weak": View(fixmatch.WEAK), "strong": View("strong", {"crop_scale": (1.0, 1.0)})}

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The head that answers, a copy of the best of those that are trained; its loss; all items' features."""
        heads = [spice_head(net.width, self.hidden, k) for _ in range(1 + self.tries)]
        return {
            "cluster": heads[0],
            "tried": SideBySide(heads[1:]),
            "lowest": LowestLoss(),
            "features": ItemTable(net.width),
        }

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Store the features of the pre-trained net; nearness is measured by them throughout."""
        net.features.fill(features())

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(net.tried), self.learning_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Label the batch by each head, then train each on its labels in small parts, `repeats` times."""
        device = net.mean.device
        net.backbone.eval()
        with torch.no_grad():
            weak = batch.gather(seen(net, batch.weak))
            # Every process works on the whole batch, and so takes the same steps.
            strong = batch.gather(batch.strong if self.drift else seen(net, batch.strong))
            places = F.normalize(net.features.of(batch.gather(batch.index.to(device))))
            said = net.tried(weak.expand(self.tries, -1, -1))
            chosen = torch.stack([prototype_labels(logits, places, self.share) for logits in said])
            self.record(batch, said, chosen)
        label = labels_of(chosen[0])
        rows = chosen.flatten(1)
        steps = max(1, len(label) // self.part)
        for _ in range(self.repeats):
            order = torch.randperm(len(label), generator=batch.generator).to(device)
            for part in order.split(self.part)[:steps]:
                logits = net.tried(self.taught(net, strong, rows[:, part]))
                yield {"prototype": double_softmax_loss(logits.flatten(0, 1), label[part].repeat(self.tries))}
        if (batch.number + 1) % batch.per_epoch == 0:
            self.choose(net, batch)

    def taught(self, net: Net, strong: Tensor, rows: Int[Tensor, "h b"]) -> Float[Tensor, "h b d"]:
        """The features that each head learns from: of the round, or with `drift` new ones by the batch's statistics."""
        if not self.drift:
            return strong[rows]
        net.backbone.train()
        with torch.no_grad():
            return net.backbone(strong[rows.flatten()]).unflatten(0, rows.shape)

    def record(self, batch: Batch, said: Float[Tensor, "h b k"], chosen: Int[Tensor, "h k m"]) -> None:
        """Groups and confidences of the head that is best in this batch, and the share of items that it labels."""
        losses = [choice_loss(logits, rows) for logits, rows in zip(said, chosen, strict=True)]
        best = int(torch.stack(losses).argmin())
        label = batch.record_answers(said[best].softmax(1))
        batch.log(labelled=torch.tensor(len(chosen[best].unique()) / len(label)))

    @torch.no_grad()
    def choose(self, net: Net, batch: Batch) -> None:
        """After an epoch: let the best head answer from now on, unless one of an earlier epoch was better."""
        z = net.features.rows
        places = F.normalize(z)
        if self.drift:
            z = batch.all_features()
        losses = []
        for head in range(self.tries):
            state = net.tried.state_of(head)
            logits = torch.cat([functional_call(net.cluster, state, (part,)) for part in z.split(CHUNK)])
            losses.append(choice_loss(logits, prototype_labels(logits, places, self.share)))
        lowest, best = torch.stack(losses).min(0)
        batch.log(choice_loss=lowest)
        if self.kept == "last" or bool(lowest < net.lowest.loss):
            net.lowest.loss.copy_(lowest)
            net.cluster.load_state_dict(net.tried.state_of(int(best)))

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.cluster(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: at least thirty rounds or ten epochs, narrower heads; embeddings are not distorted.

    Rounds of pictures beyond 64 pixels are smaller, so that they fit into memory.
    """
    size = min(facts.n, max(20 * facts.k, min(5000, NUMBERS // (3 * max(1, facts.side) ** 2))))
    return {
        "epochs": min(30, max(10, -(-30 // (facts.n // size)))),
        "batch_size": size,
        "part": min(128, max(2, size // 4)),
        "hidden": 128,
        "distorted": facts.kind == "images",
    }


def seen(net: Net, view: Tensor) -> Float[Tensor, "b d"]:
    """Features in the precision of training, which is enough for the heads; in pieces, since a round is large."""
    return torch.cat([net.backbone.as_trained(part) for part in view.split(PIECE)])


class SideBySide(nn.Module):
    """Heads of the form of `spice_head`, in one product for all: features (heads, n, d) -> logits (heads, n, k)."""

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        states = [head.state_dict() for head in heads]
        self.stacked = nn.ParameterDict(
            {name.replace(".", "_"): nn.Parameter(torch.stack([state[name] for state in states])) for name in states[0]}
        )

    def forward(self, features: Float[Tensor, "h n d"]) -> Float[Tensor, "h n k"]:
        own = self.stacked
        hidden = torch.baddbmm(own["0_bias"][:, None], features, own["0_weight"].transpose(1, 2)).relu()
        return torch.baddbmm(own["3_bias"][:, None], hidden, own["3_weight"].transpose(1, 2))

    def state_of(self, head: int) -> dict[str, Tensor]:
        """The state of one of them alone, as `spice_head` has it."""
        return {name.replace("_", "."): value[head].detach() for name, value in self.stacked.items()}


class LowestLoss(nn.Module):
    """The lowest loss so far, which a checkpoint must hold."""

    loss: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("loss", torch.tensor(torch.inf))


def spice_head(width: int, hidden: int, k: int) -> nn.Module:
    """Linear - ReLU - Linear; the softmax at the end of the authors' is applied where it is needed."""
    return mlp_head(width, hidden, k, batch_norm=False)


def prototype_labels(logits: Float[Tensor, "n k"], places: Float[Tensor, "n d"], share: float) -> Int[Tensor, "k m"]:
    """The n / k rows that are nearest to each group's prototype: the mean of its `share` · n / k surest rows.

    An item may be claimed by several groups, and others by none.
    """
    each = len(logits) // logits.shape[1]
    surest = log_odds(logits).topk(max(1, int(share * each)), dim=0).indices
    prototypes = places[surest.T].mean(1)
    return (prototypes @ places.T).topk(each, dim=1).indices


def log_odds(logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """ln p / (1 - p), which has the order of p without ties where p rounds to 1."""
    highest, group = logits.max(1, keepdim=True)
    others = logits.scatter(1, group, -torch.inf).logsumexp(1, keepdim=True)
    odds = logits.log_softmax(1) - (-logits.softmax(1)).log1p()
    return odds.scatter(1, group, highest - others)


def labels_of(chosen: Int[Tensor, "k m"]) -> Int[Tensor, " n"]:
    """The group of each of these rows, in the order of `chosen.flatten()`."""
    return torch.arange(len(chosen), device=chosen.device).repeat_interleave(chosen.shape[1])


def double_softmax_loss(logits: Float[Tensor, "n k"], label: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy that takes the head's probabilities for logits; between b and b + 1, b = ln(1 + (k - 1) / e).

    Logits (2, 0) and label 0: probabilities (.8808, .1192), loss ln(1 + exp(.1192 - .8808)) = .3832.
    """
    return F.cross_entropy(logits.softmax(1), label)


def choice_loss(logits: Float[Tensor, "n k"], chosen: Int[Tensor, "k m"]) -> Float[Tensor, ""]:
    """The loss of a head on the labels that it gives itself, on the undistorted items."""
    return double_softmax_loss(logits[chosen.flatten()], labels_of(chosen))
