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
    order = order[same[order].argsort(descending=True, stable=True)]
    for group in label.unique():
        members = order[label[order] == group]
        keep[members[: max(1, int(at_least * len(members)))]] = True
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
