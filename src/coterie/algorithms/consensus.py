"""Several clusterings of the same items as one: groups matched, then a vote of each item."""

from __future__ import annotations

import torch
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from coterie.types import InputError

ROUNDS = 20  # of matching all to their vote, at most; a few are enough


def matched_to(reference: Int[Tensor, " n"], labels: Int[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """The group of `labels` that stands for each group of `reference`, so that most items agree (Hungarian method)."""
    counts = torch.bincount(reference * k + labels, minlength=k * k).view(k, k)
    return torch.from_numpy(linear_sum_assignment(counts.cpu().numpy(), maximize=True)[1]).to(labels.device)


def vote_orders(labels: Int[Tensor, "n q"], k: int, first: int) -> Int[Tensor, "q k"]:
    """For each of q clusterings, which of its groups stands for each group of their vote.

    All are matched to the clustering `first`, then to the vote of all, until it no longer changes; the groups keep the
    names of `first`. It takes n k memory, where a co-association of items takes n². InputError for a wrong `first`.
    """
    count = labels.shape[1]
    if not 0 <= first < count:
        raise InputError(f"There is no clustering {first} of {count}.")
    reference, orders = labels[:, first], None
    for _ in range(ROUNDS):
        found = torch.stack([matched_to(reference, labels[:, one], k) for one in range(count)])
        if orders is not None and torch.equal(found, orders):
            break
        orders, reference = found, votes(labels, found).argmax(1)
    assert orders is not None
    return orders


def votes(labels: Int[Tensor, "n q"], orders: Int[Tensor, "q k"]) -> Int[Tensor, "n k"]:
    """How many clusterings put each item into each group, by `vote_orders`."""
    found = torch.zeros(len(labels), orders.shape[1], dtype=torch.int64, device=labels.device)
    for one, order in enumerate(orders):
        found.scatter_add_(1, order.argsort()[labels[:, one]][:, None], torch.ones_like(labels[:, one : one + 1]))
    return found
