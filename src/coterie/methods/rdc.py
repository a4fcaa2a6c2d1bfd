"""R-DC: every point with evenly spaced neighbours moves to the centroid of its most reliable ones.

Shaheen, Mrabah, Ksantini and Alqaddoumi, "Rethinking Deep Clustering Paradigms: Self-Supervision Is All You Need",
2025, https://arxiv.org/abs/2503.03733. Equation numbers are the paper's. Written from the text; what it leaves open
is decided, case by case, on the method's page, which also lists where the authors' code differs. The preset `paper` is
that code as it runs, but for its choice of the weights by true labels; `text` is the paper's words. Phase 1 is `acai`;
K-means on the final code gives the groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.algorithms.density import DensityFound, dbscan, place_density
from coterie.algorithms.kmeans import place_groups
from coterie.algorithms.nearest_mean import NearestMean
from coterie.algorithms.neighbours import nearest
from coterie.common.bounds import BatchSize, BelowOne, Count, Epochs, PartShare, Positive, Rate, Restarts, Weight
from coterie.common.words import whole_percent
from coterie.contract import Card, Facts, OnlyIf, Pass, Reading, iterations_for, logged
from coterie.networks.autoencoder import decoder_for, flat
from coterie.networks.heads import PrototypeHead
from coterie.networks.memory import ItemTable
from coterie.networks.net import Net, in_evaluation, trainable
from coterie.objectives.proximity import (
    Copies,
    GapFrom,
    GapScale,
    Rules,
    WhenNone,
    choose_filters,
    gap_scale,
    neighbours_in_bank,
    proximity,
)
from coterie.types import Batch, EpochStart, Features, InputError, Losses, RunFailed

SETTLED_AFTER, WINDOW = 10, 5  # refreshes before the stop rule applies, and the number that it looks back on
STEADY, GROWTH = 0.005, 1e-3  # range of ρ in the window that counts as stable; least rise of ρ that counts
COLLAPSE = 100.0  # factor by which the code may shrink
FEW_PASS, ALL_PASS = 0.25, 0.99  # share of the neighbours outside of which the second filter is of little use
ONE_LUMP = 0.8  # share of the items in one group of DBSCAN at which it has told nothing
TWO = {"neighbours": 2, "batch_size": 50}  # the code's variants for VesselMNIST3D and PneumoniaMNIST

CARD = Card(
    title="R-DC",
    paper="Shaheen, Mrabah, Ksantini, Alqaddoumi: Rethinking Deep Clustering Paradigms",
    year=2025,
    family="auto-encoder",
    url="https://arxiv.org/abs/2503.03733",
    views={"clean": "clean", "shifted": "shifted"},
    starts_from="acai",
    starts_on=("images", "embeddings"),
    inherits=("decoder",),
    scaling="unit",
    answers=("groups", "decoder"),
    only_if=(
        OnlyIf("core_ratio", lambda ratio: ratio is None, ("core_share",)),
        OnlyIf("gap", lambda gap: gap is None, ("accepted",)),
        OnlyIf("solver", lambda solver: solver == "sgd", ("momentum",)),
        OnlyIf("final", lambda final: final == "kmeans", ("restarts",)),
        OnlyIf("refresh", lambda refresh: refresh != "bank", ("border_code",)),
        OnlyIf(
            ("include_border", "border_image"),
            lambda pulled, image: pulled or image == "decoded",
            ("border_code",),
        ),
    ),
    presets={
        "pneumoniamnist": {**TWO, "core_ratio": 0.6, "gap": 0.1, "epoch_steps": 50, "epochs": 1},
        "breastmnist": {"core_ratio": 0.6, "gap": 0.6, "epoch_steps": 4, "epochs": 1},
        "bloodmnist": {"core_ratio": 0.5, "gap": 0.6, "epoch_steps": 15, "epochs": 1},
        "vesselmnist3d": {**TWO, "core_ratio": 0.9, "gap": 1.0, "core_sense": "below", "copies": "left_out"},
        "cifar10": {"core_ratio": 0.6, "gap": 0.6},
        "cifar10-vgg16fc1": {"core_ratio": 0.6, "gap": 0.6},
        "fashion-mnist": {"core_ratio": 0.6, "gap": 0.6},
    },
    code={
        "neighbours": 4,
        "gap_from": "running",
        "when_none": "own_code",
        "include_border": True,
        "border_code": "refresh",
        "border_image": "decoded",
        "image_weight": 100.0,
        "order": "source",
        "epoch_steps": 140,
        "epochs": 715,
        "stop": "never",
        "widest": None,
    },
    text=Reading(
        {"refresh": "bank", "stop": "no_increase", "widest": None},
        {
            "pneumoniamnist": {"core_ratio": 0.8, "gap": 1.0},
            "breastmnist": {"core_ratio": 0.6, "gap": 0.7},
            "bloodmnist": {"core_ratio": 0.5, "gap": 0.6},
            "vesselmnist3d": {"core_ratio": 0.3, "gap": 0.5},
            "cifar10": {"core_ratio": 0.6, "gap": 0.6},
            "cifar10-vgg16fc1": {"core_ratio": 0.6, "gap": 0.6},
            "fashion-mnist": {"core_ratio": 0.6, "gap": 0.6},
        },
    ),
    without_k={"final": "dbscan"},
    backbone=lambda spec, device, as_published: "ae",
    logs={
        "core_share": ("core share", "items that lie evenly among their neighbours; it settles at the end"),
        "accepted": ("accepted neighbours", "share that passes the second filter; near 1 it does nothing"),
        "latent_std": logged.LATENT_STD,
        "nearest": ("nearest neighbour", "mean distance in the code"),
    },
)


@dataclass(frozen=True)
class RDC:
    epochs: Epochs = 73  # at most; 20,000 iterations of Fashion-MNIST's 70,000 images
    batch_size: BatchSize = 256
    neighbours: Count = 5  # M
    core_ratio: Weight | None = None  # β1; None: the one that makes `core_share` of the items core at the start
    gap: Positive | None = None  # β2; None: the one that accepts `accepted` of the core items' neighbours at the start
    core_share: PartShare = 0.5  # of the items at the start, where core_ratio is None
    accepted: PartShare = 0.65  # of the core items' neighbours at the start, where gap is None
    gap_scale: GapScale = "absolute"  # absolute: as in the paper; median: in median nearest-neighbour distances
    # what a neighbour's distance is compared with; running: the authors' code, in effect a ball
    gap_from: GapFrom = "own"
    when_none: WhenNone = "nearest"  # target of a core item that accepts nobody: its nearest neighbour, or its own code
    core_sense: Literal["above", "below"] = "above"  # below: the code's variant for VesselMNIST3D
    copies: Copies = "core"  # kind of an item whose neighbours are all copies of it
    image_weight: Weight = 30.0  # κ, of the loss in image space
    augment: bool = True  # shift and turn the inputs, as in the paper; targets are always of clean items
    include_border: bool = False  # border items are pulled to their own code in latent space, too (DynAE's form)
    border_code: Literal["fresh", "refresh"] = "fresh"  # their own code: the present one, or that of the last refresh
    # target of border items: their clean image, or the decoding of their code
    border_image: Literal["clean", "decoded"] = "clean"
    refresh: Literal["bank", "epoch"] = "epoch"  # find neighbours once an epoch; bank: for every batch anew
    epoch_steps: Count | None = None  # iterations that make an epoch; None: a pass through all items
    order: Literal["shuffled", "source"] = "shuffled"  # source: batches are slices of the items as they come
    # stable: ρ within 0.005 over five refreshes; no_increase: no rise for five
    stop: Literal["stable", "no_increase", "never"] = "stable"
    widest: Positive | None = 10.0  # end the run if the code is this many times as wide as at the start; None: never
    solver: Literal["adam", "sgd"] = "adam"  # sgd takes the momentum
    learning_rate: Rate = 1e-4
    momentum: BelowOne = 0.9  # of sgd
    restarts: Restarts = 20  # of the final K-means
    final: Literal["kmeans", "dbscan"] = "kmeans"  # what groups the final code; dbscan, for an unknown K, finds K

    card: ClassVar[Card] = CARD

    def limits(self, facts: Facts) -> dict[str, tuple[int, int | None]]:
        return {"neighbours": (2, facts.n - 2)}

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on such data."""
        if facts.n < 4:
            raise InputError(f"R-DC needs at least 4 items, to find neighbours among them; the source has {facts.n}.")
        if not 2 <= self.neighbours < facts.n - 1:
            raise InputError(f"rdc.neighbours is {self.neighbours}: it must lie between 2 and {facts.n - 2}.")
        if self.refresh == "bank" and self.gap_from in ("running", "global"):
            raise InputError(
                f"rdc.gap_from is {self.gap_from}, a minimum over all items, but rdc.refresh is bank, which looks at "
                "one batch: set rdc.refresh to epoch."
            )
        if self.widest is not None and self.widest <= 1:
            raise InputError(f"rdc.widest is {self.widest}: it must be above 1, or null for no limit.")
        if facts.k and self.final == "dbscan":
            raise InputError("rdc.final is dbscan, which finds the number of groups itself: say -k auto.")
        if not facts.k and self.final == "kmeans":
            raise InputError("rdc.final is kmeans, which needs the number of groups: say -k 10, or rdc.final=dbscan.")

    def views(self) -> Mapping[str, str]:
        return {"clean": "clean", "shifted": "shifted" if self.augment else "clean"}

    def passes(self) -> tuple[Pass, ...]:
        sliced = self.order == "source"
        return (Pass(keep_last=sliced, shuffled=not sliced, steps=self.epoch_steps),)

    @property
    def rules(self) -> Rules:
        return Rules(self.gap_from, self.when_none, self.core_sense, self.copies)

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The decoder, the tables of all items, the two filters, the stopping criterion, and the groups that answer."""
        return {
            "decoder": decoder_for(net),
            "bank": ItemTable(net.width),
            "centroids": ItemTable(net.width + 1),  # with a last column that is 1 for core items
            "filters": Filters(),
            "stopping": StoppingCriterion(),
            "density": DensityFound(),
            "groups": self.groups(net.width, k),
        }

    def groups(self, width: int, k: int) -> PrototypeHead | NearestMean:
        if self.final == "kmeans":
            return PrototypeHead(width, k, standardise=False)
        return NearestMean(width, k, "euclidean")

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Fix both thresholds: the settings', or those that give the wanted shares, without labels."""
        z = features()
        distance, _ = nearest(z, self.neighbours)
        chosen = choose_filters(distance, self.core_share, self.accepted, self.gap_scale, self.rules)
        core_ratio = chosen[0] if self.core_ratio is None else self.core_ratio
        net.filters.set(core_ratio, chosen[1] if self.gap is None else self.gap, z.std(0).mean())

    def optimiser(self, net: Net) -> torch.optim.Optimizer:
        trained = trainable(net.backbone, net.decoder)
        if self.solver == "sgd":
            return torch.optim.SGD(trained, self.learning_rate, self.momentum, fused=True)
        return torch.optim.Adam(trained, self.learning_rate, fused=True)

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Eq. 12-14: core items aim at their centroid in code and image, border items at their own clean image.

        Targets are constants, made from clean items in evaluation mode. Squared errors are means over an item's values,
        and both losses are divided by the whole batch, so that the pull grows with the share of core items. In the
        authors' code border items aim at their own code of the last refresh and at its decoding (`include_border`,
        `border_code`, `border_image`), so that no image of the data is a target.
        """
        with torch.no_grad(), in_evaluation(net.backbone, net.decoder):
            codes = self.refresh == "bank" or self.border_code == "fresh"
            clean = net.backbone.as_trained(batch.clean) if codes else net.bank.of(batch.index)
            if self.refresh == "bank":
                self.renew_rows(net, batch, clean)
            row = net.centroids.of(batch.index)
            centroid, core = row[:, :-1], row[:, -1:]
            aim = torch.where(core > 0, centroid, clean)
            if self.border_image == "decoded":
                image = net.decoder(aim)
            else:
                image = core * net.decoder(centroid) + (1 - core) * flat(batch.clean)
        z = net.backbone(batch.shifted)
        pull = (z - aim).square().mean(1)
        latent = pull if self.include_border else pull * core.squeeze(1)
        construction = (net.decoder(z) - image).square().mean(1)
        yield {
            "latent": batch.gather(latent).mean(),
            "image": self.image_weight * batch.gather(construction).mean(),
        }

    def begin_epoch(self, net: Net, epoch: EpochStart) -> None:
        """Encode all items, find neighbours, filter, compute the centroids, and check whether ρ has settled."""
        z = epoch.features()
        distance, neighbour = nearest(z, self.neighbours)
        net.filters.scale.copy_(self.scale_of(distance))
        scale = gap_scale(distance, self.gap_scale)
        found = proximity(z, distance, neighbour, *net.filters.thresholds, scale=scale, rules=self.rules)
        net.bank.fill(z)
        net.centroids.fill(torch.cat([found.centroid, found.core[:, None].to(z.dtype)], 1))
        spread = z.std(0).mean()
        epoch.log(
            core_share=torch.tensor(found.core_share),
            accepted=torch.tensor(found.accepted),
            latent_std=spread,
            nearest=distance[:, 0].mean(),
        )
        check_spread(float(spread), float(net.filters.first_spread), self.widest)
        if said := self.unselective(found.accepted):
            epoch.warn(said)
        if net.stopping.settled(found.core_share, self.stop):
            epoch.end()

    def unselective(self, accepted: float) -> str:
        """A sentence where the second filter lets nearly all neighbours pass, or hardly any."""
        name = "rdc.accepted" if self.gap is None else "rdc.gap"
        if accepted > ALL_PASS:
            other = "" if self.gap_scale == "median" else ", or set rdc.gap_scale to median, which follows the code"
            passed = "R-DC's second filter lets more than 99% of the neighbours pass, so it does nothing"
            return f"{passed}: lower {name}{other}."
        if accepted < FEW_PASS:
            return f"R-DC's second filter lets less than a quarter of the neighbours pass: raise {name}."
        return ""

    def renew_rows(self, net: Net, batch: Batch, clean: Tensor) -> None:
        """Write the batch's fresh codes into the bank and look for its neighbours there."""
        index, fresh = batch.gather(batch.index.to(clean.device)), batch.gather(clean)
        net.bank.rows[index] = fresh
        distance, neighbour = neighbours_in_bank(net.bank.rows, fresh, index, self.neighbours)
        scale = distance[:, 0] if self.gap_scale == "relative" else net.filters.scale
        found = proximity(
            net.bank.rows, distance, neighbour, *net.filters.thresholds, scale=scale, rules=self.rules, own=fresh
        )
        net.centroids.rows[index] = torch.cat([found.centroid, found.core[:, None].to(fresh.dtype)], 1)

    def scale_of(self, distance: Tensor) -> Tensor:
        """The one number that gaps are divided by until the next refresh; 1 where each point has its own."""
        return torch.ones(()) if self.gap_scale == "relative" else gap_scale(distance, self.gap_scale)

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """K-means on the raw code; the confidences are the posterior of a spherical mixture around its centres.

        Without K: DBSCAN with M points to a neighbourhood; confidences as FINCH's, noise in the nearest group.
        """
        code = features()
        check_spread(float(code.std(0).mean()), float(net.filters.first_spread), self.widest)
        if self.final == "kmeans":
            place_groups(net.groups, code, generator, self.restarts)
        else:
            density = dbscan(code, self.neighbours)
            net.density.remember(density)
            if density.groups:
                place_density(net.groups, code, density)

    def found(self, net: Net) -> tuple[int, str]:
        """The number of DBSCAN's groups, and a sentence on it for the user."""
        k, radius, noise = net.groups.k, float(net.density.radius), float(net.density.noise)
        largest = float(net.density.largest)
        said = (
            f"DBSCAN (radius {radius:.3g}) found {k} group{'s' * (k != 1)}, the largest of {whole_percent(largest)} of "
            f"the items; {noise:.1%} were noise and went to the nearest group."
        )
        if largest > ONE_LUMP:
            said += " DBSCAN found no gaps between groups, so the confidences are not reliable: give a number with -k."
        return k, said

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        return {self.final: net.groups(features)}


def check_spread(spread: float, first: float, widest: float | None) -> None:
    """Raise RunFailed for a code that collapsed, or that diverged (`widest` times its first spread).

    Only the border items' images keep the code's scale: where shifted items lie a little inward of clean ones, each
    step pulls the codes a little further out.
    """
    if spread * COLLAPSE < first:
        raise RunFailed("The code of R-DC collapsed: all items are nearly at one point.", "Raise rdc.image_weight.")
    if widest is not None and spread > widest * first:
        raise RunFailed(
            f"The code of R-DC diverged: it is {spread / first:.0f} times as wide as at the start.",
            "Set rdc.augment to false, rdc.refresh to epoch, or rdc.epochs lower.",
        )


def practical(facts: Facts) -> dict[str, Any]:
    """For a CPU or small data: 4,000 iterations, but ten epochs at least; scale-free gaps, and no augmentation.

    Shifted inputs make the code wider with every epoch; without them more of an image's neighbours agree with it.
    """
    size = iterations_for(facts, 600, 4_000)
    epochs = max(SETTLED_AFTER, size["epochs"])
    return {**size, "epochs": epochs, "gap_scale": "median", "augment": False}


class Filters(nn.Module):
    """The two thresholds, the unit of the gaps, and the spread of the code at the start."""

    core_ratio: Tensor
    gap: Tensor
    scale: Tensor
    first_spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("core_ratio", "gap"):
            self.register_buffer(name, torch.ones((), dtype=torch.float64))
        for name in ("scale", "first_spread"):
            self.register_buffer(name, torch.ones(()))

    @property
    def thresholds(self) -> tuple[float, float]:
        """(β1, β2)"""
        return float(self.core_ratio), float(self.gap)

    def set(self, core_ratio: float, gap: float, spread: Tensor) -> None:
        self.core_ratio.fill_(core_ratio)
        self.gap.fill_(gap)
        self.first_spread.copy_(spread)


class StoppingCriterion(nn.Module):
    """The share of core items ρ at the latest refreshes, and whether it has settled."""

    last: Tensor
    best: Tensor
    unchanged: Tensor
    refreshes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(WINDOW))
        self.register_buffer("best", torch.zeros(()))
        self.register_buffer("unchanged", torch.zeros((), dtype=torch.int64))  # refreshes since ρ last rose
        self.register_buffer("refreshes", torch.zeros((), dtype=torch.int64))

    def settled(self, core_share: float, rule: str) -> bool:
        """Store ρ and apply the rule: `stable`, a narrow range over the window; `no_increase`, no rise for as long."""
        self.last.copy_(self.last.roll(1)).view(-1)[0] = core_share
        rose = core_share > float(self.best) + GROWTH
        self.best.clamp_(min=core_share)
        self.unchanged.copy_(torch.zeros_like(self.unchanged) if rose else self.unchanged + 1)
        self.refreshes.add_(1)
        if rule == "never" or int(self.refreshes) < SETTLED_AFTER:
            return False
        if rule == "stable":
            return float(self.last.max() - self.last.min()) < STEADY
        return int(self.unchanged) >= WINDOW
