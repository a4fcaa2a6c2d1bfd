from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coterie.objectives.pairs import (
    binary_cross_entropy,
    cosines,
    exchanged,
    identity_layer,
    mean_where,
    pair_cross_entropy,
)
from coterie.types import Batch, OneProcess


class OneOf:
    """The share of one of several processes that hold equal pieces of each sub-batch."""

    def __init__(self, rank: int, processes: int, size: int, part: int) -> None:
        self.processes = processes
        rows = torch.arange(size).view(-1, processes, part // processes)
        self.own = rows[:, rank].reshape(-1)

    def gather(self, local: Tensor) -> Tensor:
        raise AssertionError("sub-batches are formed without asking the other processes")

    def mine(self, everyone: Tensor) -> Tensor:
        return everyone[self.own]


def a_batch(share: OneProcess | OneOf, size: int, part: int) -> Batch:
    generator = torch.Generator().manual_seed(5)
    return Batch(torch.arange(size), {}, part_size=part, progress=0.0, generator=generator, share=share)


def test_cosines_are_those_of_all_pairs() -> None:
    p = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    for i in range(6):
        for j in range(6):
            assert cosines(p)[i, j].item() == pytest.approx(F.cosine_similarity(p[i], p[j], dim=0).item(), abs=1e-6)


def test_the_cross_entropy_is_torchs_and_finite_at_the_ends() -> None:
    p = torch.rand(5, 5, generator=torch.Generator().manual_seed(1))
    target = (torch.rand(5, 5, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    torch.testing.assert_close(binary_cross_entropy(p, target), F.binary_cross_entropy(p, target, reduction="none"))
    ends = torch.tensor([[0.0, 1.0]], requires_grad=True)
    assert binary_cross_entropy(ends, torch.tensor([[1.0, 0.0]])).max().item() == pytest.approx(16, abs=0.2)
    binary_cross_entropy(ends, torch.tensor([[0.0, 1.0]])).sum().backward()
    assert ends.grad is not None
    assert bool(torch.isfinite(ends.grad).all())


@pytest.mark.parametrize("apart", [0.3, 1e-3, 3e-4])
def test_the_loss_of_two_answers_of_nearly_one_direction_keeps_its_digits(apart: float) -> None:
    exact = torch.tensor([[0.5, 0.2], [0.5, 0.2 + apart], [0.0, 0.9]], dtype=torch.float64, requires_grad=True)
    linked = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=torch.bool)
    unit = F.normalize(exact, dim=1)
    slow = binary_cross_entropy((unit @ unit.T).clamp(0, 1), linked.double())
    (gradient,) = torch.autograd.grad(slow.sum(), exact)
    p = exact.detach().float().requires_grad_()
    found = pair_cross_entropy(p, linked)
    torch.testing.assert_close(found.double(), slow, rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), p)[0].double(), gradient, rtol=1e-3, atol=1e-3)


def test_a_mean_over_nothing_is_zero() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert mean_where(values, values > 2).item() == 3.5
    assert mean_where(values, values > 9).item() == 0


@pytest.mark.parametrize(("width", "out"), [(5, 3), (3, 5)])
def test_an_identity_layer_begins_as_the_identity(width: int, out: int) -> None:
    x = torch.randn(2, width)
    torch.testing.assert_close(identity_layer(width, out)(x), F.pad(x, (0, out))[:, :out])


@given(st.integers(2, 40), st.integers(2, 12))
@settings(deadline=None, max_examples=30)
def test_every_item_of_a_complete_sub_batch_comes_once(size: int, part: int) -> None:
    rows = list(exchanged(a_batch(OneProcess(), size, part)))
    everyone = torch.cat(rows).sort().values
    assert len(everyone) % len(rows) == 0
    assert torch.equal(everyone, torch.arange(len(everyone)))
    assert size - len(everyone) <= part + 1  # a single item at the end goes with the sub-batch before it


def test_two_processes_form_the_sub_batches_that_one_would() -> None:
    size, part = 24, 8
    alone = list(exchanged(a_batch(OneProcess(), size, part)))
    shares = [OneOf(rank, 2, size, part) for rank in range(2)]
    halves = []
    for share in shares:
        batch = a_batch(share, size, part)
        batch.index = batch.index[share.own]
        halves.append([share.own[rows] for rows in exchanged(batch)])
    for whole, first, second in zip(alone, *halves, strict=True):
        assert torch.equal(torch.cat([first, second]), whole)
    assert not torch.equal(alone[0], torch.arange(part))
