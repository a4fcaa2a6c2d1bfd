"""Pairs of a batch: are both items of the same group? Shared by DAC and DCCM.

Chang, Wang, Meng, Xiang and Pan, "Deep Adaptive Image Clustering", ICCV 2017; Wu and others, "Deep Comprehensive
Correlation Mining for Image Clustering", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from coterie.contract import View
from coterie.networks.heads import SteadyLinear
from coterie.types import Batch
from coterie.views.drift import Drift
from coterie.views.recipes import GLYPH

MOVED = View({"photo": Drift(), "glyph": GLYPH["perturbed"]}, settings={"turn": 20.0, "shift": 0.18})
SMALLEST = 1e-7  # of a probability inside a logarithm, Keras' epsilon


def cosines(p: Float[Tensor, "n k"]) -> Float[Tensor, "n n"]:
    """Cosines of all pairs of answers, 0 to 1: how surely both are in the same group."""
    unit = F.normalize(p, dim=1)
    return (unit @ unit.T).clamp(0, 1)


def binary_cross_entropy(p: Float[Tensor, "n m"], target: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """-target log p - (1 - target) log(1 - p), with p held away from 0 and 1 as Keras does."""
    p = p.clamp(SMALLEST, 1 - SMALLEST)
    return -(target * p.log() + (1 - target) * (-p).log1p())


def pair_cross_entropy(p: Float[Tensor, "n k"], linked: Bool[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Binary cross-entropy of all pairs' cosines, an item's with itself included, with whether they are linked.

    Of answers that are nearly equal, 1 - cosine is half the squared distance of their directions: the difference of two
    rounded numbers has no digit of it left, and the loss of a pair that is not linked is its logarithm.
    """
    unit = F.normalize(p, dim=1)
    distance = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    apart = (distance.square() / 2).clamp(SMALLEST, 1 - SMALLEST)
    return -torch.where(linked, (-apart).log1p(), apart.log())


def mean_where(values: Float[Tensor, "n m"], chosen: Bool[Tensor, "n m"]) -> Float[Tensor, ""]:
    """The mean of the chosen values, 0 where none is."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def identity_layer(width: int, out: int) -> SteadyLinear:
    """A linear layer that begins as the identity (ones on the diagonal, zeros elsewhere)."""
    layer = SteadyLinear(width, out)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def moved_views(repeats: int) -> dict[str, View]:
    """The plain images, and `repeats` distorted copies of them: "clean", "moved1", "moved2", ..."""
    return {"clean": View("clean"), **{f"moved{i + 1}": MOVED for i in range(repeats)}}


def moved_parts(batch: Batch, repeats: int) -> Iterator[tuple[Tensor, Int[Tensor, " s"]]]:
    """The images of each sub-batch and their rows in the batch, copy after copy, each in an order of its own."""
    for i in range(repeats):
        for rows in exchanged(batch):
            yield batch.views[f"moved{i + 1}"][rows], rows


def exchanged(batch: Batch) -> Iterator[Int[Tensor, " s"]]:
    """This process' rows of each sub-batch, after a random exchange of items among the complete ones.

    An item keeps its place within a sub-batch, and with it its process, so that several processes form the sub-batches
    that one would: each place has a random order of its own. An incomplete sub-batch at the end is left out.
    """
    parts = batch.parts()
    size = parts[0].stop
    complete = sum(part.stop - part.start == size for part in parts)
    order = torch.rand(size * batch.share.processes, complete, generator=batch.generator).argsort(1)
    # The first sub-batch of the global batch has one item in each place.
    places = batch.mine(torch.arange(len(batch.index) * batch.share.processes))[:size]
    for column in order[places].T:
        yield column * size + torch.arange(size)
