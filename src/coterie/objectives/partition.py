"""Partition confidence: are the groups of two views of the same items the same groups, and told apart?

Huang, Gong and Zhu, "Deep Semantic Clustering by Partition Confidence Maximisation", CVPR 2020. All terms compare
columns, that is groups over the batch, never rows; all inputs are probabilities, and everything is float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from coterie.contract import Facts
from coterie.objectives.contrastive import at_least_float32

SMALLEST = 1e-8  # of a group's share inside the logarithm, so that an empty group has a finite gradient


def partition_uncertainty(x: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> Float[Tensor, "k k"]:
    """The cosines of every group's column in `x` with every group's column in `y`, Eq. (5)-(8).

    The identity where the groups are sure, distinct and the same in both views; all ones where all rows are alike. Rows
    of `x` and `y` are the same items. An empty group's row or column is 0.
    """
    columns, others = (F.normalize(at_least_float32(p), dim=0, eps=1e-12) for p in (x, y))
    return columns.T @ others


def partition_loss(uncertainty: Float[Tensor, "k k"]) -> Float[Tensor, ""]:
    """Cross-entropy of each group's row with its own column, the cosines as logits, Eq. (9)-(10).

    Cosines end at 1, so it never gets to 0: between log(1 + (k-1)/e) for the identity and log(e + k - 1) for the worst
    matrix; log k where all groups are alike.
    """
    return F.cross_entropy(uncertainty, torch.arange(len(uncertainty), device=uncertainty.device))


def imbalance(p: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """log k minus the entropy of the mean prediction: 0 for groups of equal size, log k for a single one, Eq. (11)."""
    sizes = at_least_float32(p).sum(0)
    share = sizes / sizes.sum()
    return math.log(p.shape[1]) + (share * share.clamp(min=SMALLEST).log()).sum()


def mean_off_diagonal(uncertainty: Float[Tensor, "k k"]) -> Float[Tensor, ""]:
    """The partition uncertainty as one number: the mean cosine of two different groups."""
    k = len(uncertainty)
    return (uncertainty.sum() - uncertainty.diagonal().sum()) / (k * (k - 1))


def partition_preset(facts: Facts) -> dict[str, Any]:
    """The practical preset of PICA and IIC: one copy, few epochs at a high rate, smaller batches for fewer images.

    The over-clustering head has seven groups for each one that is asked for, as 70 for 10, but at most a third of the
    batch size.
    """
    batch = min(facts.n, max(32, 4 * facts.k, min(256, facts.n // 12)))
    return {
        "epochs": min(150, max(10, round(26 * (70_000 / facts.n) ** 0.2))),
        "batch_size": batch,
        "copies": 1,
        "over": min(7 * facts.k, max(2 * facts.k, batch // 3)),
        "learning_rate": 1e-3,
    }
