"""What a model keeps of the items it was fitted on: the features of a sample, and Gaussians of its groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from coterie.training.checkpoints import load_tree, save_tree
from coterie.training.seeds import generator_of
from coterie.types import InputError

ROWS = 10_000  # fitted items that are kept; with 512 features 20 MB
WIDEST = 4096  # features of which a covariance is measured: 134 MB in float64, in the model 67
LEAST_SPREAD = 1e-14  # of the values' mean square, the square of what float32 tells apart
NEIGHBOURS = 50  # Sun et al. 2022 for CIFAR-10


@dataclass(frozen=True)
class Bank:
    """`features`: raw embeddings of a sample of the fitted items. `neighbours`: k of the nearest-neighbour score.

    `means` are those of the model's own clusters (of all fitted items, empty clusters left out), and `whitening` a
    lower triangular W with WᵀW the precision of the features around them; for very wide features it has no rows.
    `rows` are the numbers of the sample's items in the source; None in models of an older version.
    """

    features: Float[Tensor, "m d"]
    means: Float[Tensor, "c d"]
    whitening: Float[Tensor, "w d"]
    neighbours: int
    rows: Int[Tensor, " m"] | None = None

    def to(self, device: torch.device) -> Bank:
        moved = (self.features.to(device), self.means.to(device), self.whitening.to(device))
        return Bank(*moved, self.neighbours, self.rows)


def make_bank(
    embedding: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    k: int,
    seed: int,
    numbers: Int[Tensor, " n"] | None = None,
) -> Bank:
    """Keep at most 10,000 random items, and measure clusters by the model's own `labels`; n is at least 2.

    The covariance is that of the sample around its clusters' means, shrunk as Ledoit and Wolf (2004) derive it: with
    fewer items than features, or dead features, a plain one has no inverse, and a pseudo-inverse would not see just
    those directions that no fitted item has. k is at most half an average cluster of the sample, so that the k-th
    neighbour of a fitted item may be of its own cluster. `numbers`: of these items in the source, where some of its
    items are not here.
    """
    rows = torch.randperm(len(embedding), generator=generator_of(seed, "ood", "bank"))[:ROWS].sort().values
    sample = embedding[rows].clone()
    sizes = labels.bincount(minlength=k)
    sums = torch.zeros(k, embedding.shape[1], dtype=torch.float64)  # float32 is off by a percent after a million terms
    for part, own in zip(embedding.split(ROWS), labels.split(ROWS), strict=True):
        sums.index_add_(0, own, part.double())
    means = (sums / sizes.clamp(min=1)[:, None]).float()
    whitening = torch.zeros(0, sample.shape[1])
    if sample.shape[1] <= WIDEST:
        size = float(sample.double().square().mean())
        whitening = whitening_of((sample - means[labels[rows]]).double(), size)
    neighbours = max(1, min(NEIGHBOURS, len(rows) // (2 * k)))
    return Bank(sample, means[sizes > 0], whitening, neighbours, rows if numbers is None else numbers[rows])


def whitening_of(rest: Float[Tensor, "m d"], size: float) -> Float[Tensor, "d d"]:
    """Lower triangular W with WᵀW the precision of these differences to their means; `size`: mean square of a value."""
    from sklearn.covariance import ledoit_wolf

    covariance = torch.from_numpy(ledoit_wolf(rest.numpy(), assume_centered=True)[0])
    # Items that all lie on their means have no spread at all; the floor also keeps float32 enough for W.
    floor = 1e-6 * covariance.diagonal().mean() + (LEAST_SPREAD * size or 1.0)
    factor = torch.linalg.cholesky(covariance + floor * torch.eye(len(covariance), dtype=torch.float64))
    whitening = torch.linalg.solve_triangular(factor, torch.eye(len(factor), dtype=torch.float64), upper=False)
    # Contiguous, as it is when it was saved and read: products of another layout round differently.
    return whitening.float().contiguous()


def save_bank(path: Path, bank: Bank) -> None:
    """Write it as safetensors, whole or not at all."""
    save_tree(path, {name: value for name, value in vars(bank).items() if value is not None})


def load_bank(path: Path, width: int) -> Bank | None:
    """Read what `save_bank` wrote; None if there is none. Raises InputError for one that is damaged or does not fit."""
    if not path.exists():
        return None
    try:
        bank = Bank(**load_tree(path))
        _check(bank)
    except (InputError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: fit the model again.") from error
    if bank.features.shape[1] != width:
        raise InputError(f"{path} holds {bank.features.shape[1]} features, but the model has {width}: fit it again.")
    return bank


def _check(bank: Bank) -> None:
    """Raise ValueError for entries of another kind, of sizes that do not fit each other, or not finite."""
    tensors = (bank.features, bank.means, bank.whitening)
    if not isinstance(bank.neighbours, int) or bank.neighbours < 1:
        raise ValueError("neighbours")
    if any(t.dtype != torch.float32 or t.ndim != 2 or not torch.isfinite(t).all() for t in tensors):
        raise ValueError("features, means and whitening are finite float32 matrices")
    if bank.rows is not None and (bank.rows.dtype != torch.int64 or bank.rows.shape != bank.features.shape[:1]):
        raise ValueError("rows are numbers, one for each row of the features")
    if len({t.shape[1] for t in tensors}) > 1 or len(bank.features) < 1 or len(bank.means) < 1:
        raise ValueError("features, means and whitening are of one width")
