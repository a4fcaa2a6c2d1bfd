"""Student-t soft assignments and their sharpened targets, shared by DEC and the methods after it.

Xie, Girshick and Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016, Eq. (1)-(3).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from coterie.networks.memory import ItemTable
from coterie.networks.net import Net
from coterie.types import Batch

CHUNK = 4096  # rows whose differences to all centres are held at once


def soft_assign_t(
    z: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], degrees_of_freedom: float = 1.0
) -> Float[Tensor, "n k"]:
    """q_ik ∝ (1 + |z_i - μ_k|²/ν)^(-(ν+1)/2), rows sum to 1 (Eq. 1); ν = `degrees_of_freedom` degrees.

    From differences and not from products: exact where points lie near centres, and independent of a
    row's place in the batch.
    """
    squared = (z.float()[:, None] - centres.float()).square().sum(2)
    return (-(degrees_of_freedom + 1) / 2 * torch.log1p(squared / degrees_of_freedom)).softmax(1)


@torch.no_grad()
def soft_assign_all(
    z: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], degrees_of_freedom: float = 1.0
) -> Float[Tensor, "n k"]:
    """`soft_assign_t` without gradient, in chunks: for the whole data set."""
    return torch.cat([soft_assign_t(part, centres, degrees_of_freedom) for part in z.split(CHUNK)])


def target_distribution(q: Float[Tensor, "b k"], frequency: Float[Tensor, " k"] | None = None) -> Float[Tensor, "b k"]:
    """p_ik ∝ q_ik² / f_k, rows sum to 1 (Eq. 3), where f_k = Σ_i q_ik goes over the WHOLE data set.

    `frequency` is that f where q holds only some rows of the data set; without it, q must hold all of them.
    """
    f = q.sum(0) if frequency is None else frequency
    weight = q.square() / f.clamp(min=torch.finfo(q.dtype).tiny)
    return weight / weight.sum(1, keepdim=True)


def divergence(p: Float[Tensor, "b k"], q: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """KL(p_i | q_i) of each row, in nats, with 0 log 0 = 0 (Eq. 2 is its sum; its mean is what Keras minimises)."""
    return (torch.special.xlogy(p, p) - p * q.clamp(min=torch.finfo(q.dtype).tiny).log()).sum(1)


def reassign(net: Net, batch: Batch, tolerance: float, degrees_of_freedom: float = 1.0) -> None:
    """Assign all items anew (clean views) to `net.clusters`, on which the target of `net.assigned` stands.

    Fewer changed labels than the share `tolerance` end the stage. Codes are in the precision of training, as those of q
    are.
    """
    q = soft_assign_all(batch.all_features(half=True), net.clusters.centres, degrees_of_freedom)
    batch.end_below(tolerance, changed=renew(net.assigned, q))


def renew(assigned: ItemTable, q: Float[Tensor, "n k"]) -> float | None:
    """Store the assignments of all items; returns the share of changed labels, None if there were none before."""
    before = assigned.rows
    assigned.fill(q)
    return label_change_rate(before.argmax(1), q.argmax(1)) if len(before) else None


def target_of(assigned: ItemTable, index: Tensor) -> Float[Tensor, "b k"]:
    """The target of these items, a constant until the assignments of all items are renewed."""
    return target_distribution(assigned.of(index), frequency=assigned.rows.sum(0))


def label_change_rate(before: Int[Tensor, " n"], after: Int[Tensor, " n"]) -> float:
    """Share of the items whose label changed."""
    return float((before != after).float().mean())
