"""Out-of-distribution scores: how much an item looks like those that a run was fitted on. No label is used.

Every score here is larger for items that look more in-distribution, the sign of the papers; pytorch-ood and
torch-uncertainty score the opposite. Their values have no common scale: compare them with those of the fitted items.

    msp          max p                                  Hendrycks & Gimpel, ICLR 2017
    entropy      sum p log p, the negative entropy
    max-logit    max z                                  Hendrycks et al., ICML 2022
    energy       T log sum exp(z / T), T = 1            Liu et al., NeurIPS 2020
    knn          -|h - h_(k)|, unit features            Sun et al., ICML 2022
    mahalanobis  -min_c (h - m_c)' S^-1 (h - m_c)       Lee et al., NeurIPS 2018; c are the model's own clusters
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from coterie.networks.heads import steady_product
from coterie.networks.unit import unit_rows
from coterie.prediction.bank import WIDEST, Bank
from coterie.types import InputError

SCORES = ("msp", "entropy", "max-logit", "energy", "knn", "mahalanobis")
FROM_LOGITS = ("max-logit", "energy")
FROM_BANK = ("knn", "mahalanobis")
DEFAULT = "knn"  # every method has features, and it adds to the confidence, which msp would only repeat
SPARE = 8  # rows of the bank that are measured beyond the neighbours
SAME = 1e-5  # unit features nearer than this are the same item's: float32 rounding, not another item

Scorer = Callable[[Tensor, Tensor], list[Tensor]]
"""(probabilities, features) of b items -> one column (b, 1) for each score that was asked for."""


def msp(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Maximum softmax probability, which is the confidence; larger = more in-distribution."""
    return p.max(1).values


def negative_entropy(p: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """-H(p) in nats, from -log k (undecided) to 0; larger = more in-distribution."""
    return torch.special.xlogy(p, p).sum(1)


def max_logit(logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The largest logit; larger = more in-distribution. A constant added to all logits adds to it."""
    return logits.max(1).values


def energy(logits: Float[Tensor, "n k"], temperature: float = 1.0) -> Float[Tensor, " n"]:
    """T log sum exp(z / T), the negative of the paper's free energy; larger = more in-distribution.

    Lies between max z and max z + T log k.
    """
    return temperature * (logits / temperature).logsumexp(1)


def knn(features: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], k: int) -> Float[Tensor, " n"]:
    """Negative Euclidean distance to the k-th nearest row of the bank, from -2 to 0; larger = more in-distribution.

    Both sides are scaled to unit length here. An item that is itself in the bank (fitted items are) is not its own
    neighbour: its k-th is then the (k+1)-th of the bank.
    """
    k = min(k, len(bank) - 1)
    unit, bank = unit_rows(features), unit_rows(bank)
    centre = bank.mean(0)  # taken off before the product, as where all angles are small it tells none apart
    closer = steady_product(unit - centre, bank - centre) - (bank - centre).square().sum(1) / 2
    nearest = closer.topk(min(k + 1 + SPARE, len(bank)), dim=1).indices
    # From the differences: products would lose all digits of small distances, and with them the order.
    apart = torch.stack([(unit - bank[rows]).norm(dim=1) for rows in nearest.T], dim=1).sort(dim=1).values
    return -torch.where(apart[:, 0] <= SAME, apart[:, k], apart[:, k - 1])


def mahalanobis(
    features: Float[Tensor, "n d"], means: Float[Tensor, "c d"], whitening: Float[Tensor, "w d"]
) -> Float[Tensor, " n"]:
    """Negative squared Mahalanobis distance to the nearest cluster mean, up to 0; larger = more in-distribution.

    The shared precision is WᵀW, W being `whitening`.
    """
    centre = means.mean(0)  # taken off before the product, which keeps the digits of differences
    rows, centres = (steady_product(x - centre, whitening) for x in (features, means))
    apart = torch.cdist(rows, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return -apart.square().min(1).values


def available(*, logits: bool, bank: Bank | None = None) -> tuple[str, ...]:
    """The scores that a model can give: which ones depends on whether it has `logits` and a bank."""
    names = tuple(name for name in SCORES if logits or name not in FROM_LOGITS)
    return tuple(name for name in names if name != "mahalanobis" or bank is None or len(bank.whitening))


def check_scores(names: Sequence[str], *, logits: bool, bank: Bank | None) -> None:
    """Raise InputError for an unknown score, and for one that needs logits or a bank where there is none."""
    for name in names:
        if name not in SCORES:
            near = difflib.get_close_matches(str(name).lower(), SCORES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(SCORES)}."
            raise InputError(f"Unknown out-of-distribution score {name!r}; {hint}")
        if name not in available(logits=logits):
            others = ", ".join(available(logits=False))
            raise InputError(f"The score {name} needs logits, and this model has only probabilities: use {others}.")
        if name in FROM_BANK and bank is None:
            raise InputError(
                f"The score {name} needs a sample of the fitted items, which this model was saved without: "
                "fit it again, or use msp."
            )
        if name == "mahalanobis" and bank is not None and not len(bank.whitening):
            raise InputError(
                f"The score mahalanobis needs the features' covariance, which is not kept for more than {WIDEST} "
                "features: use knn."
            )


def scorer(
    names: Sequence[str], logits: Callable[[Tensor], Tensor] | None, bank: Bank | None, device: torch.device
) -> Scorer:
    """Prepare these scores of a model whose answer has these logits of its features. Raises as `check_scores` does."""
    check_scores(names, logits=logits is not None, bank=bank)
    here = bank.to(device) if bank is not None and set(names) & set(FROM_BANK) else None

    def score(p: Tensor, features: Tensor) -> list[Tensor]:
        z = logits(features) if logits is not None and set(names) & set(FROM_LOGITS) else None
        return [score_of(name, p, z, features, here)[:, None] for name in names]

    return score


def score_of(
    name: str, p: Float[Tensor, "n k"], logits: Tensor | None, features: Float[Tensor, "n d"], bank: Bank | None
) -> Float[Tensor, " n"]:
    """One score by its name; `logits` and `bank` may be None where the score does not need them."""
    if name == "msp":
        return msp(p)
    if name == "entropy":
        return negative_entropy(p)
    if name in FROM_LOGITS:
        assert logits is not None
        return max_logit(logits) if name == "max-logit" else energy(logits)
    assert bank is not None
    if name == "knn":
        return knn(features, bank.features, bank.neighbours)
    return mahalanobis(features, bank.means, bank.whitening)
