"""Learning from labels that a net has given itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def class_weights(label: Int[Tensor, " n"], k: int) -> Float[Tensor, " k"]:
    """n / n_c by group, 1 for an empty one: the weighted mean is then the mean over groups of their means."""
    counts = label.bincount(minlength=k)
    return torch.where(counts > 0, len(label) / counts.clamp(min=1), 1.0)


def balanced_cross_entropy(
    logits: Float[Tensor, "n k"], target: Int[Tensor, " n"] | Float[Tensor, "n k"], group: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Cross-entropy with labels or probabilities: the mean over the groups present of the mean of their items."""
    weights = class_weights(group, logits.shape[1])
    if not target.is_floating_point():
        return F.cross_entropy(logits, target, weights)
    # Given the weights, PyTorch would also weigh the probabilities of one item against each other, and divide by n.
    own = weights[group]
    return (own * F.cross_entropy(logits, target, reduction="none")).sum() / own.sum()


def reliable(
    p: Float[Tensor, "n k"],
    lists: Int[Tensor, "n m"],
    consistency: float,
    confidence: float,
    at_least: float = 0.0,
) -> Bool[Tensor, " n"]:
    """Items surer than `confidence` of whose neighbours (themselves included) a large enough share is in their group;
    and of each group the share `at_least` that is most consistent, the surest first, or one item.
    """
    sure, label = p.max(1)
    same = (label[lists] == label[:, None]).sum(1)
    keep = (same >= consistency * lists.shape[1] - 1e-6) & (sure > confidence)
    if at_least == 0:
        return keep
    order = sure.argsort(descending=True, stable=True)
    return keep | first_of_each(order[same[order].argsort(descending=True, stable=True)], label, at_least)


def surest(confidence: Float[Tensor, " n"], group: Int[Tensor, " n"], share: float) -> Bool[Tensor, " n"]:
    """Of each group the share of its items that is surest, one at least; of no group any where the share is 0."""
    return first_of_each(confidence.argsort(descending=True, stable=True), group, share)


def first_of_each(order: Int[Tensor, " n"], group: Int[Tensor, " n"], share: float) -> Bool[Tensor, " n"]:
    """Of each group a share of its items, one at least, those that come first in the order; none for a share of 0."""
    keep = torch.zeros_like(group, dtype=torch.bool)
    if share == 0:
        return keep
    order = order[group[order].argsort(stable=True)]  # group by group
    size = group.bincount()
    most = (share * size.double()).floor().clamp(min=1)
    rank = torch.arange(len(order), device=order.device) - (size.cumsum(0) - size)[group[order]]
    keep[order] = rank < most[group[order]]
    return keep


def consistency_loss(
    weak: Float[Tensor, "b k"], strong: Float[Tensor, "b k"], threshold: float
) -> tuple[Float[Tensor, ""], Bool[Tensor, " b"]]:
    """FixMatch's: the mean over all items of the strong views' cross-entropy with the weak views' groups, 0 for those
    whose weak view is less sure than the threshold; and the mask of the sure ones. Weak views get no gradient.
    """
    confidence, group = weak.detach().softmax(1).max(1)
    taught = confidence >= threshold
    return (F.cross_entropy(strong, group, reduction="none") * taught).mean(), taught
