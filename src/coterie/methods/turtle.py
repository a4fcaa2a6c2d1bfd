"""TURTLE: of all groupings, the one that linear classifiers learn best, in one space of features or in several at once.

Gadetsky, Jiang and Brbić, "Let Go of Your Labels with Unsupervised Transfer", ICML 2024. The features are embeddings as
they are, of one encoder or (`--features a/ b/`) of several, or those of another run's backbone (`--init`), which is not
trained; for pictures, the pixels by default. In every step classifiers θ learn the grouping that the task encoder τ
proposes, and τ moves towards what they learn better. Written from our specification of the paper and of what the
authors' code does; that code has no licence and none of it is here. Differs: features are centred and brought to
a mean squared norm of d, where theirs are taken raw; batches go through all items in turn; the answer is τ itself,
whose outputs are the probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.common.bounds import BatchSize, Count, Epochs, PositiveRate, Weight
from coterie.contract import Card, Facts, Pass
from coterie.contract.logged import CONFIDENCE
from coterie.networks.heads import steady_product
from coterie.networks.identity import Identity, own_backbone
from coterie.networks.net import Net, trainable
from coterie.types import Batch, Losses

BETAS, TINY = (0.9, 0.999), 1e-8  # of Adam

CARD = Card(
    title="TURTLE",
    paper="Gadetsky, Jiang, Brbić: Let Go of Your Labels with Unsupervised Transfer",
    year=2024,
    family="self-training",
    url="https://arxiv.org/abs/2406.07236",
    views={"own": "clean"},
    answers=("task",),
    spaces=True,
    balance="entropy_weight",
    backbone=own_backbone("TURTLE"),
    trains_backbone=False,
    logs={
        "confidence": CONFIDENCE,
        "learned": ("what the classifiers learned", "share of items that they put into the group that was proposed"),
    },
)


@dataclass(frozen=True)
class TURTLE:
    epochs: Epochs = 60  # of `steps` batches each
    steps: Count = 100
    batch_size: BatchSize = 10_000
    inner_steps: Count = 10  # steps of the classifiers for each step of the task encoder
    inner_rate: PositiveRate = 1e-3  # Adam
    outer_rate: PositiveRate = 1e-3  # Adam
    warm_start: bool = False  # classifiers continue from the step before; false: new random ones in each
    entropy_weight: Weight = 10.0  # gamma, keeps groups of equal size

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        """A batch that can hold an item of each group."""
        return {"batch_size": (facts.k, None)}

    def passes(self) -> tuple[Pass, ...]:
        return (Pass(steps=self.steps),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The task encoder, and the classifiers of the step before."""
        widths = spaces_of(net)
        return {"task": TaskEncoder(widths, k), "classifiers": Classifiers(widths, k)}

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(net.task), self.outer_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """The classifiers learn the proposed grouping, then the proposal is moved towards their answers."""
        net.backbone.eval()
        with torch.no_grad():
            # Every process has the whole batch: the classifiers' steps need it, and are the same everywhere.
            spaces = net.task.split(batch.gather(net.backbone(batch.own)))
        shares = net.task.shares(spaces)
        proposed = torch.stack(shares).mean(0)
        if not self.warm_start:
            net.classifiers.draw(batch.generator)
        weights = net.classifiers.weights()
        said = [
            learn(rows, own, proposed.detach(), self.inner_steps, self.inner_rate)
            for rows, own in zip(spaces, weights, strict=True)
        ]
        self.record(batch, proposed.detach(), torch.stack(said).mean(0))
        yield {
            "learning": torch.stack([cross_entropy(logits, proposed) for logits in said]).sum(),
            "entropy": -self.entropy_weight * torch.stack([entropy(share.mean(0)) for share in shares]).sum(),
        }

    def record(self, batch: Batch, proposed: Float[Tensor, "b k"], said: Float[Tensor, "b k"]) -> None:
        """Groups and confidences of the proposal, and how much of it was learned."""
        label = batch.record_answers(proposed)
        batch.log(learned=(said.argmax(1) == label).float().mean())

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"softmax": net.task(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For two cores: a third of the steps, of at most 1,024 items, or ten of each group.

    Adam moves every weight by its rate, and a logit by d times as much, so that the rates of the paper's 768 features
    and more are raised for shorter ones. Each of several spaces has its own logits: d is their mean length.
    """
    width = (facts.width or facts.dim or facts.side**2) / facts.spaces
    rate = round(1e-3 * max(1.0, 768 / max(12, width)), 4)
    size = min(facts.n, max(1024, 10 * facts.k))
    return {"epochs": 40, "steps": 50, "batch_size": size, "inner_rate": rate, "outer_rate": rate}


def spaces_of(net: Net) -> tuple[int, ...]:
    """The widths of the spaces whose features are concatenated in the net's."""
    own = isinstance(net.backbone.trunk, Identity) and net.spec.spaces
    return tuple(space.dim for space in net.spec.spaces) if own else (net.width,)


def cross_entropy(logits: Float[Tensor, "b k"], target: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Mean of -Σ target · ln softmax(logits). Of (.9, .1), (.2, .8) and (.7, .3), (.4, .6) it is .5167."""
    return -(target * logits.log_softmax(1)).sum(1).mean()


def entropy(shares: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """-Σ p ln p, between 0 and ln k."""
    # At 0 its gradient is infinite, and times that of a softmax which underflowed to 0 no number.
    return torch.special.entr(shares.clamp(min=torch.finfo(shares.dtype).tiny)).sum()


@torch.no_grad()
def learn(
    rows: Float[Tensor, "b d"],
    weights: tuple[Tensor, Tensor],
    target: Float[Tensor, "b k"],
    steps: int,
    rate: float,
) -> Float[Tensor, "b k"]:
    """Logits of a linear classifier after some steps of Adam towards these targets; `weights`, its (k, d) matrix and
    biases (k,), are changed in place.

    The gradient is written out, since the steps are small and very many: (softmax - target)ᵀ · rows / b.
    """
    moments = [(torch.zeros_like(own), torch.zeros_like(own)) for own in weights]
    matrix, bias = weights
    for number in range(1, steps + 1):
        wrong = (torch.addmm(bias, rows, matrix.T).softmax(1) - target) / len(rows)
        for own, gradient, (first, second) in zip(weights, (wrong.T @ rows, wrong.sum(0)), moments, strict=True):
            first.lerp_(gradient, 1 - BETAS[0])
            second.lerp_(gradient.square_(), 1 - BETAS[1])
            scale = (second / (1 - BETAS[1] ** number)).sqrt_().add_(TINY)
            own.addcdiv_(first, scale, value=-rate / (1 - BETAS[0] ** number))
    return torch.addmm(bias, rows, matrix.T)


class TaskEncoder(nn.Module):
    """τ: the mean over spaces of softmax(V z + b), every row of V a direction times a gain.

    Initialised as torch's linear layer: uniform up to 1/√d either way.
    """

    def __init__(self, widths: tuple[int, ...], k: int) -> None:
        super().__init__()
        self.widths = list(widths)
        drawn = [torch.empty(k, d).uniform_(-(d**-0.5), d**-0.5) for d in widths]
        self.directions = nn.ParameterList([nn.Parameter(v) for v in drawn])
        self.gains = nn.ParameterList([nn.Parameter(v.norm(dim=1)) for v in drawn])
        self.biases = nn.ParameterList([nn.Parameter(torch.empty(k).uniform_(-(d**-0.5), d**-0.5)) for d in widths])

    def split(self, features: Float[Tensor, "n d"]) -> list[Float[Tensor, "n _"]]:
        return [part.contiguous() for part in features.split(self.widths, dim=1)]

    def matrices(self) -> list[Float[Tensor, "k _"]]:
        """Each space's weights: directions of length 1, times their gains."""
        return [
            F.normalize(directions, dim=1) * gain[:, None]
            for directions, gain in zip(self.directions, self.gains, strict=True)
        ]

    def shares(self, spaces: list[Float[Tensor, "n _"]]) -> list[Float[Tensor, "n k"]]:
        """Each space's probabilities."""
        parts = zip(spaces, self.matrices(), self.biases, strict=True)
        return [F.linear(rows, matrix, bias).softmax(1) for rows, matrix, bias in parts]

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Logarithms of τ, independent of an item's place in the batch."""
        parts = zip(self.split(features), self.matrices(), self.biases, strict=True)
        said = [(steady_product(rows, matrix) + bias).log_softmax(1) for rows, matrix, bias in parts]
        return torch.stack(said).logsumexp(0)


class Classifiers(nn.Module):
    """θ: a linear classifier for each space. No gradient reaches them: `learn` moves them."""

    def __init__(self, widths: tuple[int, ...], k: int) -> None:
        super().__init__()
        for place, d in enumerate(widths):
            self.register_buffer(f"matrix{place}", torch.empty(k, d).uniform_(-(d**-0.5), d**-0.5))
            self.register_buffer(f"bias{place}", torch.empty(k).uniform_(-(d**-0.5), d**-0.5))
        self.count = len(widths)

    def weights(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.get_buffer(f"matrix{place}"), self.get_buffer(f"bias{place}")) for place in range(self.count)]

    def draw(self, generator: torch.Generator) -> None:
        """Draw new weights, as torch's linear layer does."""
        for matrix, bias in self.weights():
            for own in (matrix, bias):
                random = torch.rand(own.shape, generator=generator)
                own.copy_((2 * random - 1) * matrix.shape[1] ** -0.5)
