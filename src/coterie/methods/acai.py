"""ACAI: an auto-encoder whose interpolations a critic judges. Phase 1 of R-DC, DynAE and ADEC.

Berthelot, Raffel, Roy and Goodfellow, "Understanding and Improving Interpolation in Autoencoders via an Adversarial
Regularizer", ICLR 2019, as R-DC (Shaheen et al. 2025, Eq. 1, 2) describes it; missing numbers are those of DynAE's
code. Unlike that code and R-DC's, the critic here is trained (theirs is frozen before it is compiled; `critic_frozen`
has that) on its own item's α (`critic_pairing`), α is folded to [0, 0.5] (`alpha_folded`), and items are shuffled over
the whole data set (`order`). The preset `paper` is those codes' phase 1, `text` the paper's words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.kmeans import place_groups
from coterie.common.bounds import BatchSize, Epochs, Rate, Restarts, Share, Weight
from coterie.contract import Card, Facts, OnlyIf, Pass, Reading, Step, iterations_for, logged
from coterie.networks.autoencoder import critic_for, decoder_for, explained, flat
from coterie.networks.heads import PrototypeHead
from coterie.networks.net import Net, trainable
from coterie.objectives.interpolation import critic_loss, draw_mixing, interpolate
from coterie.types import Batch, Features

CARD = Card(
    title="ACAI + k-means",
    paper="Berthelot, Raffel, Roy, Goodfellow: Understanding and Improving Interpolation in Autoencoders",
    year=2019,
    family="auto-encoder",
    url="https://openreview.net/forum?id=S1fQSiCcYm",
    views={"shifted": "shifted"},
    scaling="unit",
    gives=("decoder",),
    answers=("groups", "decoder"),
    only_if=(
        OnlyIf("critic_frozen", lambda frozen: not frozen, ("critic_pairing",)),
        OnlyIf("interpolation_weight", lambda weight: weight > 0, ("warm_up",)),
    ),
    of_the_last=("restarts",),
    code={"alpha_folded": False, "critic_pairing": "all", "critic_frozen": True, "order": "source"},
    text=Reading(),
    backbone=lambda spec, device, as_published: "ae",
    logs={
        "explained": logged.EXPLAINED,
        "latent_std": logged.LATENT_STD,
    },
)


@dataclass(frozen=True)
class ACAI:
    epochs: Epochs = 476  # 130,000 iterations of Fashion-MNIST's 70,000 images
    batch_size: BatchSize = 256
    learning_rate: Rate = 1e-4  # Adam, of auto-encoder and critic
    interpolation_weight: Weight = 0.5  # λ
    warm_up: Share = 0.0  # share of the training in which λ rises from 0
    alpha_folded: bool = True  # mix at most half of the other code in; else any share of it
    critic_pairing: Literal["own", "all"] = "own"  # all: each answer is compared with every item's α
    critic_frozen: bool = False  # leave the critic as it was initialised
    order: Literal["shuffled", "source"] = "shuffled"  # source: batches are slices of the source, each shuffled
    restarts: Restarts = 20  # of the final K-means

    card: ClassVar[Card] = CARD

    def passes(self) -> tuple[Pass, ...]:
        sliced = self.order == "source"
        return (Pass(keep_last=sliced, shuffled=not sliced),)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        groups = PrototypeHead(net.width, k, standardise=False)
        return {"decoder": decoder_for(net), "critic": critic_for(net), "groups": groups}

    def optimiser(self, net: Net) -> dict[str, torch.optim.Optimizer]:
        sides = {"autoencoder": trainable(net.backbone, net.decoder), "critic": trainable(net.critic)}
        return {name: torch.optim.Adam(trained, self.learning_rate, fused=True) for name, trained in sides.items()}

    def weight(self, progress: float) -> float:
        """λ at this share of the training."""
        return self.interpolation_weight * (min(1.0, progress / self.warm_up) if self.warm_up else 1.0)

    def step(self, net: Net, batch: Batch) -> Iterator[Step]:
        """A step of the auto-encoder against the fixed critic, then one of the critic on the items decoded before."""
        wanted = flat(batch.shifted)
        z = net.backbone(batch.shifted)
        everyone = batch.gather(z)
        drawn = draw_mixing(len(everyone), batch.generator, folded=self.alpha_folded).to(z.device)
        alpha = batch.mine(drawn)
        reconstructed = net.decoder(z)
        mixed = net.decoder(interpolate(z, batch.mine(everyone[self.partners(len(everyone), batch)]), alpha))
        error = batch.gather((reconstructed - wanted).square().mean(1))
        judged = batch.gather(net.critic(mixed).square())
        batch.log(
            explained=explained(error, batch.gather(wanted)),
            latent_std=everyone.detach().std(0).mean(),
        )
        losses = {"reconstruction": error.mean(), "interpolation": self.weight(batch.progress) * judged.mean()}
        yield Step(losses, trains=("autoencoder",))
        if self.critic_frozen:
            return
        gamma = 0.5 * torch.rand(1, generator=batch.generator).to(z.device)
        blend = gamma * wanted + (1 - gamma) * reconstructed.detach()
        pairs = self.critic_pairing == "all"
        loss = critic_loss(net.critic(mixed.detach()), drawn if pairs else alpha, net.critic(blend), all_pairs=pairs)
        yield Step({"critic": batch.gather(loss).mean()}, trains=("critic",))

    def partners(self, n: int, batch: Batch) -> Int[Tensor, " n"]:
        """The item whose code is mixed into each item's: the batch reversed; for fixed slices, shuffled first."""
        if self.order == "shuffled":
            return torch.arange(n - 1, -1, -1, device=batch.shifted.device)
        drawn = torch.randperm(n, generator=batch.generator)
        return torch.empty_like(drawn).index_copy_(0, drawn, drawn.flip(0)).to(batch.shifted.device)

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on the raw code; the confidences are the posterior of a spherical mixture around its centres."""
        place_groups(net.groups, features(), generator, self.restarts)

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {"kmeans": net.groups(features)}


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 10,000 iterations at ten times the rate, fewer for fewer items, and a long warm-up."""
    return {**iterations_for(facts, 1_500, 10_000), "learning_rate": 1e-3, "warm_up": 0.5}
