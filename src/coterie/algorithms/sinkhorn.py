"""Balanced assignment by optimal transport: groups of given shares, as near to the probabilities as possible."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOOK_EVERY = 10  # steps between two checks for convergence
STEPS = 2000  # at most; then the rows' sums are exact and the groups' shares nearly so


@dataclass(frozen=True)
class Transport:
    """The plan (n, k) in float64: rows sum to 1/n, columns to the groups' shares; and the steps that it took."""

    plan: Float[Tensor, "n k"]
    steps: int


@torch.no_grad()
def sinkhorn(
    log_p: Float[Tensor, "n k"],
    sharpness: float,
    shares: Float[Tensor, " k"] | None = None,
    tolerance: float = 1e-2,
) -> Transport:
    """The plan Q that maximises ⟨Q, log P⟩ + entropy(Q)/sharpness with row sums 1/n and column sums `shares`.

    Q = diag(c) P^sharpness diag(r), by Sinkhorn's and Knopp's iteration (Cuturi, NIPS 2013), in logarithms, since
    P^sharpness underflows. Ends when Σ_i |c_i/c_i' - 1| is below `tolerance`, checked every tenth step, as in
    Asano, Rupprecht and Vedaldi's code (ICLR 2020). Without `shares` all groups are of equal size.

    Rows of `log_p` may be logits: a constant added to a row changes nothing.
    """
    n, k = log_p.shape
    kernel = sharpness * log_p.double().log_softmax(1)
    sizes = torch.full((k,), -math.log(k)) if shares is None else (shares / shares.sum()).log()
    sizes = sizes.to(kernel)
    items, steps = torch.full((n,), -math.log(n)).to(kernel), 0
    groups = torch.zeros_like(sizes)
    while steps < STEPS:
        groups = sizes - (kernel + items[:, None]).logsumexp(0)
        moved = -math.log(n) - (kernel + groups).logsumexp(1)
        change = (items - moved).expm1().abs().sum() if steps % LOOK_EVERY == 0 else None
        items, steps = moved, steps + 1
        if change is not None and float(change) <= tolerance:
            break
    return Transport((kernel + items[:, None] + groups).exp(), steps)
