"""Adversarially constrained interpolation: codes between two codes must decode to items that a critic takes for real.

Berthelot, Raffel, Roy and Goodfellow, "Understanding and Improving Interpolation in Autoencoders via an Adversarial
Regularizer", ICLR 2019, in the form that R-DC's phase 1 gives it (its Eq. 1, 2).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def draw_mixing(n: int, generator: torch.Generator, *, folded: bool = True) -> Float[Tensor, " n"]:
    """α uniform in [0, 0.5], one for each item: beyond one half, the two ends would only swap.

    Not `folded`: uniform in [0, 1], as the codes of DynAE and R-DC have it.
    """
    drawn = torch.rand(n, generator=generator)
    return 0.5 - (drawn - 0.5).abs() if folded else drawn


def interpolate(
    z: Float[Tensor, "n d"], partner: Float[Tensor, "n d"], alpha: Float[Tensor, " n"]
) -> Float[Tensor, "n d"]:
    """α z + (1 - α) partner: at most half of it is the item's own code."""
    return alpha[:, None] * z + (1 - alpha[:, None]) * partner


def critic_loss(
    on_mixed: Float[Tensor, " n"], alpha: Float[Tensor, " m"], on_real: Float[Tensor, " n"], *, all_pairs: bool = False
) -> Float[Tensor, " n"]:
    """The critic's squared error: it must answer α for mixed items and 0 for others (Eq. 2).

    `all_pairs` compares every answer with every item's α (m of them), as the codes of DynAE and R-DC do by
    broadcasting: at best such a critic learns the mean of α.
    """
    if all_pairs:
        return (on_mixed[:, None] - alpha[None, :]).square().mean(1) + on_real.square()
    return (on_mixed - alpha).square() + on_real.square()
