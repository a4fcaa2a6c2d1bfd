"""Heads: features -> logits over the groups, and the projector of contrastive methods."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from coterie.views.normalise import centred_rows

STEADY_COLUMNS = 16
LEAST_VARIANCE = 1e-8  # of the rows' mean squared distance to their mean: smaller ones are float32's rounding
ROUNDING = torch.finfo(torch.float32).eps  # of the rows themselves, as they were given
SMALLEST = 1e-20  # variance where all rows are 0
TINY = torch.finfo(torch.float32).tiny


def mlp_head(width: int, hidden: int, k: int, *, batch_norm: bool = True) -> nn.Sequential:
    """Linear - (BatchNorm) - ReLU - Linear, both layers with bias (CDC's heads, "three-layer MLP"; CC's without)."""
    first, last = SteadyLinear(width, hidden), SteadyLinear(hidden, k)
    norm: nn.Module = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
    return nn.Sequential(first, norm, nn.ReLU(inplace=True), last)


class SteadyLinear(nn.Linear):
    """A linear layer whose answer for an item does not depend, in evaluation mode, on the item's place in the batch."""

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return super().forward(x) if self.training else steady_product(x, self.weight) + self.bias


def steady_product(x: Float[Tensor, "n d"], weights: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
    """x · weightsᵀ, each row bit-identical at every place in a batch of the same size, of at least 32 rows.

    BLAS treats rows alike in wide products; with few columns (MKL: below 12) the rounding depends on the row's place,
    so columns of zeros make them wide.
    """
    k = len(weights)
    return (x @ F.pad(weights, (0, 0, 0, max(0, STEADY_COLUMNS - k))).T)[:, :k]


def squared_distances(rows: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "n k"]:
    """|x - c|² of every row and centre, by `steady_product`."""
    origin = centres.mean(0)  # products of rows far from 0 would lose their differences
    rows, centres = rows - origin, centres - origin
    norms = rows.square().sum(1, keepdim=True) + centres.square().sum(1)
    return (norms - 2 * steady_product(rows, centres)).clamp(min=0)


def projector(width: int, hidden: int, out: int, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear - (BatchNorm) - ReLU - Linear, in front of a contrastive loss."""
    norm: nn.Module = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
    return nn.Sequential(nn.Linear(width, hidden), norm, nn.ReLU(inplace=True), nn.Linear(hidden, out))


@torch.no_grad()
def begin_small(head: nn.Module) -> None:
    """Normal weights of deviation 0.01 and biases of 0 in all linear layers of a head."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.zeros_(layer.bias)


def standardise_rows(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Per item: subtract the mean over its features, divide by their standard deviation, scale to length 1.

    Constant rows become 0 instead of NaN (CDC spec, pitfall 5).
    """
    return F.normalize(centred_rows(features), dim=1)


class PrototypeHead(nn.Module):
    """The posterior of a spherical Gaussian mixture around K-means centres, as logits.

    logit_k = -|x - c_k|² / (2 s²) on row-standardised features x, or without `standardise` on the features as they are,
    s² from `variance_per_dimension`. The centres are buffers: `place` sets them, no gradient does.
    """

    centres: Tensor
    variance: Tensor

    def __init__(self, width: int, k: int, *, standardise: bool = True) -> None:
        super().__init__()
        self.standardise = standardise
        self.register_buffer("centres", torch.zeros(k, width))
        self.register_buffer("variance", torch.ones(()))

    @torch.no_grad()
    def place(self, centres: Float[Tensor, "k d"], features: Float[Tensor, "n d"], labels: Tensor) -> None:
        """Take K-means centres of the head's rows for these (raw) `features`, and measure s²."""
        self.centres.copy_(centres)
        self.variance.copy_(variance_around(self.rows(features), centres[labels]))

    def rows(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return standardise_rows(features) if self.standardise else features

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return -squared_distances(self.rows(features), self.centres) / (2 * self.variance)


class Centres(nn.Module):
    """Centres of groups that gradients may move (DEC) or the method itself (DCN): `place` sets them at the start."""

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.zeros(k, width))

    @torch.no_grad()
    def place(self, centres: Float[Tensor, "k d"]) -> None:
        self.centres.copy_(centres)


def variance_per_dimension(rest: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """s² of a spherical Gaussian from the rows' differences to their centres: their variance per effective dimension.

    The effective dimension is the participation ratio of the covariance, (Σλ)²/Σλ². Dividing by it, and not by d, keeps
    the posterior from saturating just because there are many features.
    """
    covariance = rest.T @ rest / len(rest)
    trace = covariance.diagonal().sum()
    shares = covariance / trace.clamp(min=TINY)  # their squares are those of no tiny or huge numbers
    return trace / (1 / shares.square().sum().clamp(min=TINY)).clamp(min=1.0)


def variance_around(rows: Float[Tensor, "n d"], centres: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """`variance_per_dimension` of the rows around the centres of their groups, at least what float32 tells apart."""
    least = LEAST_VARIANCE * float((rows - rows.mean(0)).square().sum(1).mean())
    least += ROUNDING**2 * float(rows.square().sum(1).mean())
    return variance_per_dimension(rows - centres).clamp(min=max(least, SMALLEST))


@torch.no_grad()
def begin_as_groups(
    head: nn.Module, features: Float[Tensor, "n d"], prototypes: Float[Tensor, "h d"], groups: Int[Tensor, " n"]
) -> None:
    """Set an `mlp_head` so that it answers with the given groups of these features, in training and in evaluation mode.

    The first layer are the prototypes. The batch normalisation gets its input's mean and deviation on both sides, which
    makes it the identity; a fresh one is that in evaluation mode only, and the first training batch would change the
    prototypes' answers. The last layer is the posterior of a spherical Gaussian mixture around the groups' mean
    activations m: weights m/s², biases -|m|²/(2s²).
    """
    parts: tuple[Any, ...] = tuple(head.children())
    first, norm, _, last = parts
    first.weight.copy_(prototypes)
    first.bias.zero_()
    said = first(features)
    norm.running_mean.copy_(said.mean(0))
    norm.running_var.copy_(said.var(0))
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.copy_(norm.running_mean)
    activations = said.relu()
    means = torch.stack([activations[groups == group].mean(0) for group in range(last.out_features)]).nan_to_num()
    variance = variance_around(activations, means[groups])
    last.weight.copy_(means / variance)
    last.bias.copy_(-means.square().sum(1) / (2 * variance))
