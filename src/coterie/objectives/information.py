"""Information terms on class probabilities, in nats and float32."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def entropy(p: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*rest"]:
    """Entropy of the distributions along `dim`, with 0 log 0 = 0. Its gradient is infinite where p is 0."""
    return torch.special.entr(p.float()).sum(dim=dim)


def negative_mean_entropy(logits: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Minus the entropy of the mean prediction, sum over classes of p̄ log p̄, from -ln c (balanced) to 0 (collapsed).

    CDC, Eq. (2). log p̄ is taken by logsumexp, never as the log of a mean, so that loss and gradient stay finite when
    a class underflows in the whole batch.
    """
    log_mean = F.log_softmax(logits.float(), dim=1).logsumexp(dim=0) - math.log(len(logits))
    return (log_mean.exp() * log_mean).sum()


def soft_cross_entropy(logits: Float[Tensor, "b c"], targets: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Mean over rows of -sum over classes of target · log softmax(logits). CDC, Eq. (1)."""
    return F.cross_entropy(logits.float(), targets.float())
