"""Random numbers of a batch that several processes share."""

from __future__ import annotations

import torch
from torch import Tensor

from coterie.types import Batch


class OneOf:
    """The share of process `rank` of two, in a batch that is dealt in two halves."""

    processes = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def gather(self, local: Tensor) -> Tensor:
        return local

    def mine(self, everyone: Tensor) -> Tensor:
        return everyone.chunk(2)[self.rank]


def batch_of(rank: int, size: int) -> Batch:
    return Batch(
        torch.arange(size),
        {},
        part_size=2 * size,
        progress=0.0,
        generator=torch.Generator().manual_seed(3),
        share=OneOf(rank),
    )


def test_uniform_numbers_are_drawn_for_the_global_batch() -> None:
    first, second = (batch_of(rank, 2000).uniform(torch.empty(2000, 3)) for rank in (0, 1))
    assert not bool((first == second).any())
    both = torch.cat([first, second])
    assert -1 <= float(both.min()) < -0.99
    assert 0.99 < float(both.max()) < 1
    torch.testing.assert_close(both.mean(0), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(both.var(0), torch.full((3,), 1 / 3), atol=0.02, rtol=0)


def test_uniform_numbers_follow_the_batchs_seed_and_the_wanted_form() -> None:
    like = torch.empty(4, 2, 5, dtype=torch.float64)
    found = batch_of(0, 4).uniform(like)
    assert (found.shape, found.dtype) == (like.shape, like.dtype)
    assert torch.equal(found, batch_of(0, 4).uniform(like))
    batch = batch_of(0, 4)
    assert not torch.equal(batch.uniform(like), batch.uniform(like))  # each draw goes on where the last one ended
