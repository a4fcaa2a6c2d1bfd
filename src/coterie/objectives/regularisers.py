"""Losses that keep a classifier of given labels from growing over-confident, in float32.

The constants are those of Zhu et al., "Rethinking Confidence Calibration for Failure Prediction", ECCV 2022, which
CDC's comparison of calibration losses follows. `label` holds each row's class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

FOCAL_WARM_UP = 9 / 200  # share of the training with plain cross-entropy before the focal loss: 9 of their 200 epochs


def smoothed_cross_entropy(
    logits: Float[Tensor, "b c"], label: Int[Tensor, " b"], smoothing: float = 0.05
) -> Float[Tensor, ""]:
    """Cross-entropy to (1 - smoothing) · one-hot + smoothing / c. Müller et al., NeurIPS 2019."""
    return F.cross_entropy(logits.float(), label, label_smoothing=smoothing)


def focal_loss(logits: Float[Tensor, "b c"], label: Int[Tensor, " b"], gamma: float = 2.0) -> Float[Tensor, ""]:
    """Mean of -(1 - p)^gamma · log p, where p is the probability of the label. Mukhoti et al., NeurIPS 2020.

    Plain cross-entropy with gamma 0, which is how the cited study begins (FOCAL_WARM_UP).
    """
    log_p = -F.cross_entropy(logits.float(), label, reduction="none")
    # Where p is 1 and gamma below 1 the power has an infinite gradient; the clamp keeps it finite.
    return -((1 - log_p.exp()).clamp(min=1e-8) ** gamma * log_p).mean()


def l1_penalised_cross_entropy(
    logits: Float[Tensor, "b c"], label: Int[Tensor, " b"], weight: float = 0.01
) -> Float[Tensor, ""]:
    """Cross-entropy + weight · mean over rows of the sum of absolute logits. Joo and Chung, 2020.

    Unlike the probabilities the penalty changes when a constant is added to all logits of a row.
    """
    return F.cross_entropy(logits.float(), label) + weight * logits.float().abs().sum(dim=1).mean()


def mix_rows(
    x: Float[Tensor, "b d"], generator: torch.Generator, alpha: float = 0.3
) -> tuple[Float[Tensor, "b d"], Int[Tensor, " b"], float]:
    """Mix every row with another one: share · x[i] + (1 - share) · x[partner[i]], one share ~ Beta(alpha, alpha).

    Zhang et al., "mixup", ICLR 2018. Returns the mixed rows, their partners, and the share. Random numbers come from
    `generator` on its own device.
    """
    from scipy.special import betaincinv

    uniform = torch.rand((), dtype=torch.float64, generator=generator, device=generator.device)
    share = float(betaincinv(alpha, alpha, float(uniform)))
    partner = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    return share * x + (1 - share) * x[partner], partner, share


def mixed_cross_entropy(
    logits: Float[Tensor, "b c"], label: Int[Tensor, " b"], other: Int[Tensor, " b"], share: float
) -> Float[Tensor, ""]:
    """share · cross-entropy to the rows' labels + (1 - share) · cross-entropy to those of their partners, `other`.

    `logits` are those of the rows that `mix_rows` returned.
    """
    logits = logits.float()
    return share * F.cross_entropy(logits, label) + (1 - share) * F.cross_entropy(logits, other)
