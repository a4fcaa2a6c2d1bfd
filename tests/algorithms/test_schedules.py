from __future__ import annotations

import pytest
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from coterie.algorithms.schedules import parts_done, unhurried_cosine, warm_up_cosine


def test_the_cosine_that_ends_above_zero_is_that_of_a_longer_training() -> None:
    optimiser = SGD(nn.Linear(1, 1).parameters(), 1.0)
    oracle = CosineAnnealingLR(optimiser, 100)  # as long as the whole training, begun after its warm-up
    for step in range(5, 100):
        assert unhurried_cosine(step / 100, 0.05) == pytest.approx(oracle.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        oracle.step()
    assert unhurried_cosine(1.0, 0.05) == pytest.approx(0.0061558, abs=1e-6)
    assert [unhurried_cosine(p, 0.05) for p in (0.0, 0.025, 0.05)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("epochs", [22, 110, 3000])
@pytest.mark.parametrize("steps", [1, 7, 700])
def test_an_epoch_is_behind_at_its_last_step_and_not_a_step_later(epochs: int, steps: int) -> None:
    """Of 3,000 epochs 230 were 229 at the first step after them: the rate of `vade` fell a batch late."""
    total = epochs * steps
    for epoch in range(epochs):
        for number in {epoch * steps, epoch * steps + steps - 1}:
            assert parts_done(number / total, epochs) == number // steps


def test_without_a_warm_up_both_cosines_are_one() -> None:
    for step in range(11):
        assert unhurried_cosine(step / 10, 0.0) == pytest.approx(warm_up_cosine(step / 10, 0.0, 0.1))
