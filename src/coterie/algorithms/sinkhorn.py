"""Balanced assignment by optimal transport: groups of given shares, as near to the probabilities as possible."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOOK_EVERY = 10  # steps between two checks for convergence
STEPS = 2000  # at most at the wanted sharpness; then the rows' sums are exact and the groups' shares nearly so
FARTHEST, SHARPER, PART = 30.0, 4.0, 200  # of a soft start: largest logarithm, factor to the next kernel, steps on each


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
    Asano, Rupprecht and Vedaldi's code (ICLR 2020). Without `shares` all groups are of equal size. Where 2,000 steps do
    not suffice it begins anew with a soft kernel, whose factors are the start for one four times as sharp, and so on.

    Rows of `log_p` may be logits: a constant added to a row changes nothing.
    """
    n, k = log_p.shape
    kernel = sharpness * log_p.double().log_softmax(1)
    sizes = torch.full((k,), -math.log(k)) if shares is None else (shares / shares.sum()).log()
    sizes = sizes.to(kernel)
    begin = torch.full((n,), -math.log(n)).to(kernel)
    items, groups, steps, settled = _turns(kernel, sizes, begin, STEPS, tolerance)
    if not settled:
        items, farther = begin, float(-kernel.min()) / FARTHEST
        for level in range(math.ceil(math.log(max(1.0, farther), SHARPER)), 0, -1):
            soft, _, more, _ = _turns(kernel * SHARPER**-level, sizes, items, PART, tolerance)
            # Logarithms of the factors grow with the sharpness.
            items, steps = SHARPER * soft, steps + more
        items, groups, more, _ = _turns(kernel, sizes, items, STEPS, tolerance)
        steps += more
    return Transport((kernel + items[:, None] + groups).exp(), steps)


def _turns(
    kernel: Float[Tensor, "n k"], sizes: Float[Tensor, " k"], items: Float[Tensor, " n"], most: int, tolerance: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " k"], int, bool]:
    """The logarithms of both factors after at most so many steps, how many there were, and whether they settled."""
    groups = torch.zeros_like(sizes)
    for step in range(most):
        groups = sizes - (kernel + items[:, None]).logsumexp(0)
        moved = -math.log(len(items)) - (kernel + groups).logsumexp(1)
        change = (items - moved).expm1().abs().sum() if step % LOOK_EVERY == 0 else None
        items = moved
        if change is not None and float(change) <= tolerance:
            return items, groups, step + 1, True
    return items, groups, most, False
