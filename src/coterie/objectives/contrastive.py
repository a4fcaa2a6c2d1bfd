"""Contrastive terms: which of many candidates is the other view of the same image?"""

from __future__ import annotations

import torch
from jaxtyping import Float
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


def embedding_std(rows: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """The normalised rows' standard deviation, mean over features times √d: 1 on all of the sphere, 0 in one point."""
    return torch.nn.functional.normalize(rows).std(0).mean() * rows.shape[1] ** 0.5
