"""Contrastive terms: which of many candidates is the other view of the same image?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def info_nce(
    queries: Float[Tensor, "b d"],
    keys: Float[Tensor, "b d"],
    negatives: Float[Tensor, "m d"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Mean of -log(exp(q·k/t) / (exp(q·k/t) + sum over negatives exp(q·n/t))), all rows L2-normalised.

    He et al., "Momentum Contrast", CVPR 2020, Eq. (1), where `negatives` is the queue; keys and queue are constants
    there, so the caller detaches them. The products with the queue follow a surrounding autocast; the rest is float32.
    """
    positive = (queries.float() * keys.float()).sum(dim=1) / temperature
    negative = (queries @ negatives.T).float() / temperature
    # log(e^p + sum e^n) without a copy of the (b, m) table to put the positive beside it.
    return (torch.logaddexp(positive, negative.logsumexp(dim=1)) - positive).mean()


def nt_xent(
    one: Float[Tensor, "b d"],
    two: Float[Tensor, "b d"],
    temperature: float,
    left_out: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """Which of the other 2b - 1 rows is a row's other view? Mean of -log of its softmax over cosine / temperature.

    Chen et al., "SimCLR", ICML 2020, Eq. (1). Rows may have any length. `left_out` (its diagonal is ignored) says
    which items are no negatives of which others, in all four combinations of views. In float32. Rows that are all alike
    give ln(2b - 1); orthogonal items with equal views ln(1 + (2b - 2) exp(-1/t)), 2.031 for b = 10 and t = 1.
    """
    rows = F.normalize(torch.cat([at_least_float32(one), at_least_float32(two)]), eps=1e-12)
    count = len(rows)
    hidden = torch.eye(count, dtype=torch.bool, device=rows.device)
    if left_out is not None:
        hidden |= (left_out & ~torch.eye(len(one), dtype=torch.bool, device=rows.device)).repeat(2, 2)
    logits = (rows @ rows.T / temperature).masked_fill(hidden, -torch.inf)
    return F.cross_entropy(logits, torch.arange(count, device=rows.device).roll(len(one)))


def column_contrast(p: Float[Tensor, "b k"], q: Float[Tensor, "b k"], temperature: float) -> Float[Tensor, ""]:
    """`nt_xent` of groups instead of items: each is the column of its probabilities over the batch, in two views.

    Li et al., "Contrastive Clustering", AAAI 2021, Eq. (4)-(6). A column's cosine does not depend on how many items
    it has, so `partition.imbalance` belongs beside it.
    """
    return nt_xent(p.T, q.T, temperature)


def embedding_std(rows: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """The normalised rows' standard deviation, mean over features times √d: 1 on all of the sphere, 0 in one point."""
    return F.normalize(rows).std(0).mean() * rows.shape[1] ** 0.5


def at_least_float32(rows: Tensor) -> Tensor:
    """Rows of half precision as float32, others as they are."""
    return rows if rows.dtype == torch.float64 else rows.float()
