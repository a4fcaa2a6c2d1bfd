"""Which items are sure enough to teach others: the formulas of six selection strategies.

All of them look at probabilities `p` of weak views, without gradient. An item's label is its most probable group, its
confidence the probability of that. Their state between batches is in `selection_strategies`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def confident_images(p: Float[Tensor, "n k"], *, match_label: bool = False) -> Bool[Tensor, " n"]:
    """Mark each group's surest images, fewer where it is unsure: of 100 with a mean confidence of 0.83, 83 stay.

    CDC, Eq. (4). Every group looks at the n/k images that give it the most probability, whatever their label, and keeps
    floor(sum of their top-1 confidences). An image may be marked through a group that is not its label; `match_label`
    leaves those out.
    """
    n, k = p.shape
    quota = n // k
    confidence, label = p.max(1)
    mask = torch.zeros(n, dtype=torch.bool, device=p.device)
    if quota == 0:
        return mask
    top = p.topk(quota, dim=0).indices  # (quota, k), surest first
    # The small term is for sums of float32 ones that come out as 99.9999 (spec, pitfall 14).
    kept = (confidence[top].double().sum(0) + 1e-6).floor()
    marked = torch.arange(quota, device=p.device)[:, None] < kept
    if match_label:
        marked &= label[top] == torch.arange(k, device=p.device)
    mask[top[marked]] = True
    return mask


def above(p: Float[Tensor, "n k"], thresholds: Float[Tensor, " k"]) -> Bool[Tensor, " n"]:
    """The items whose confidence reaches the threshold of their label."""
    confidence, label = p.max(1)
    return confidence >= thresholds[label]


def flexmatch_thresholds(remembered: Int[Tensor, " items"], k: int, threshold: float = 0.95) -> Float[Tensor, " k"]:
    """Lower thresholds for groups with few sure items so far. Zhang et al., "FlexMatch", NeurIPS 2021.

    `remembered` has, for every item of the source, the label that it was last given with at least `threshold`, or -1.
    With s(c) the number of items of label c, b(c) = s(c) / max(max s, items not remembered), the threshold of c is
    `threshold` · b/(2 - b): 0 before anything is remembered, 0.3167 at b = 0.5, 0.95 at b = 1.
    """
    counts = remembered[remembered >= 0].bincount(minlength=k)
    learned = counts / torch.maximum(counts.max(), len(remembered) - counts.sum())
    return threshold * learned / (2 - learned)


def freematch_thresholds(confidence: Float[Tensor, ""], share: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Thresholds from running means of the answers. Wang et al., "FreeMatch", ICLR 2023, without its fairness loss.

    `confidence` and `share` are running means of the confidence and of the probabilities; the group with the largest
    share has the threshold `confidence`, the others less in proportion.
    """
    return confidence * share / share.max()


# GSF and PPF: Tang and Jia, "Towards Discovering the Effectiveness of Moderately Confident Samples for Semi-Supervised
# Learning", CVPR 2022. Sure items describe a group, and less sure ones that are similar join them.


def last_layer_gradients(p: Float[Tensor, "n k"], weights: Float[Tensor, "k h"]) -> Float[Tensor, "n h"]:
    """Unit gradients of each item's cross-entropy with its own label, at the input of the last linear layer.

    (p - one-hot label) · weights; a perfectly sure item has none, so its row is 0.
    """
    _, label = p.max(1)
    return F.normalize((p - F.one_hot(label, p.shape[1])) @ weights, dim=1)


def sums_by_group(
    rows: Float[Tensor, "n d"], label: Int[Tensor, " n"], chosen: Bool[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """The sum of the chosen rows of each group, and how many they are."""
    # A product, since index_add_ sums in no fixed order on a GPU.
    member = F.one_hot(label, k).to(rows.dtype) * chosen[:, None]
    return member.T @ rows, member.sum(0)


def agreement(
    gradients: Float[Tensor, "n h"], label: Int[Tensor, " n"], directions: Float[Tensor, "k h"]
) -> Float[Tensor, " n"]:
    """GSF's score, (1 + cosine of an item's gradient and its group's direction) / 2; 0 where a group has none."""
    own = F.normalize(directions, dim=1)[label]
    cosine = (F.normalize(gradients, dim=1) * own).sum(1).clamp(-1, 1)
    return torch.where(own.any(1), (1 + cosine) / 2, 0.0)


def proximity(
    features: Float[Tensor, "n d"], label: Int[Tensor, " n"], prototypes: Float[Tensor, "k d"]
) -> Float[Tensor, " n"]:
    """PPF's score, 1 / (1 + squared distance to the prototype of the item's group)."""
    return 1 / (1 + (features - prototypes[label]).square().sum(1))


def joined(
    p: Float[Tensor, "n k"],
    confident: Bool[Tensor, " n"],
    score: Float[Tensor, " n"],
    least: Float[Tensor, ""] | float,
    lowest: float,
) -> Bool[Tensor, " n"]:
    """The confident items, and of the others those of confidence above `lowest` that score `least`."""
    return confident | ((p.amax(1) > lowest) & (score >= least))
