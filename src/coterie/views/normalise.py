"""Mean and standard deviation of a data set, and their use."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from coterie.types import Items

SAMPLE = 10_000  # items by which the scale of all is set
CHUNK = 256  # images in memory at a time
SMALL_DIM = 64  # below this, the features of embeddings are taken for unlike measurements, each with its own scale
BEYOND = 1e6  # deviations from the mean: larger values could become infinite in a net
SMALLEST_LENGTH = 1e-8  # of an item: a blank one stays blank
SMALLEST_STD = 1e-3  # of images in [0, 1]: a blank channel must not be scaled up


RowNorm = Literal["none", "l2", "l2-sqrt-d", "z-score"]
"""What is done to an item's values, all together, after the scaling by the data set's: nothing; to length 1; to length
√d, so that their mean square is 1; to mean 0 and deviation 1."""


def normalise(batch: Tensor, mean: Tensor, std: Tensor, rows: RowNorm = "none", limit: float | None = None) -> Tensor:
    """(batch - mean) / std, per channel of images (b, c, h, w) or per feature of embeddings (b, d); then `rows`.

    limit: values beyond it either way are cut off, before `rows`; None is without, up to what no data reach.
    """
    shape = (-1, 1, 1) if batch.ndim == 4 else (-1,)
    scaled = (batch - mean.view(shape)).div_(std.view(shape))
    if batch.ndim == 2:
        scaled.clamp_(-(limit or BEYOND), limit or BEYOND)
    if rows == "none":
        return scaled
    values = scaled.flatten(1)
    if rows == "z-score":
        values = centred_rows(values)
    length = values.norm(dim=1, keepdim=True)
    if rows != "l2":
        length = length / values.shape[1] ** 0.5
    return (values / length.clamp(min=SMALLEST_LENGTH)).view_as(scaled)


def centred_rows(values: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Each row less its mean; exactly 0 where all its values are equal.

    The mean of equal values is rounded, and a row of what is left would be scaled to the length of any other.
    """
    equal = values.amax(1, keepdim=True) == values.amin(1, keepdim=True)
    return (values - values.mean(1, keepdim=True)).masked_fill(equal, 0.0)


def spread_rows(n: int, most: int) -> Int[Tensor, " m"]:
    """Rows that stand for all n: `most` of them, spread evenly from the first to the last; all if there are no more."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


def normalisation(items: Items, sample: int = SAMPLE) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Mean and standard deviation from up to `sample` items spread evenly over the source, always the same ones.

    Images: per channel, in units of [0, 1]. Embeddings: per-feature means; with fewer than 64 features also per-feature
    deviations (a constant feature gets 1), otherwise one deviation for all, which keeps distances and angles as the
    foundation model made them. Each of several spaces has its own.
    """
    index = spread_rows(len(items), sample)
    if items.spec.kind == "images":
        return _image_moments(items, index)
    vectors, widths = items.take(index).float(), [space.dim for space in items.spec.spaces]
    moments = [_vector_moments(space) for space in (vectors.split(widths, dim=1) if widths else [vectors])]
    return torch.cat([mean for mean, _ in moments]), torch.cat([std for _, std in moments])


def unit_range(items: Items) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """As `normalisation`, but (low, high - low): pixels stay in [0, 1], each feature of embeddings is scaled to it.

    The scale of the auto-encoder papers, whose learning rates and weights of losses belong to it.
    """
    if items.spec.kind == "images":
        return torch.zeros(items.spec.channels), torch.ones(items.spec.channels)
    index = spread_rows(len(items), SAMPLE)
    vectors = items.take(index).float()
    low, high = vectors.amin(0), vectors.amax(0)
    return low, torch.where(high > low, high - low, 1.0)


def _image_moments(items: Items, index: Tensor) -> tuple[Tensor, Tensor]:
    total = torch.zeros(2, items.spec.channels, dtype=torch.float64)
    for part in index.split(CHUNK):
        images = items.take(part).float() / 255
        total[0] += images.mean((0, 2, 3)) * len(part)
        total[1] += images.square().mean((0, 2, 3)) * len(part)
    mean, square = total / len(index)
    return mean.float(), (square - mean.square()).clamp(min=0).sqrt().clamp(min=SMALLEST_STD).float()


def _vector_moments(vectors: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (d,) of each feature; of many features one deviation for all. That of constant ones is 1."""
    varies = vectors.amax(0) > vectors.amin(0)
    # The mean of equal values is rounded, too: of 1e20 it is far from each, and all rows would share what is left.
    mean = torch.where(varies, vectors.mean(0), vectors[0])
    variance = (vectors - mean).square().mean(0) * varies
    lost = ~variance.isfinite() | ((variance == 0) & varies)
    if bool(lost.any()):  # the squares of very large or very small numbers are none in float32
        exact = vectors.double()
        mean = torch.where(lost, exact.mean(0), mean.double())
        variance = torch.where(lost, (exact - exact.mean(0)).square().mean(0), variance.double())
    if vectors.shape[1] >= SMALL_DIM:
        variance = variance.mean().expand(vectors.shape[1])
    return mean.float(), torch.where(variance > 0, variance.sqrt(), 1.0).float()


def farthest(items: Items, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> float:
    """How far from the mean, in deviations, any value of the embeddings lies, by the same sample."""
    index = spread_rows(len(items), SAMPLE)
    return float(normalise(items.take(index).float(), mean, std).abs().max())
