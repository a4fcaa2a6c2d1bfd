from __future__ import annotations

import pytest
import torch
from torch import nn

from coterie.algorithms.lars import lars
from helpers.two_views import waves


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_weights_step_by_the_ratio_of_norms_and_vectors_plainly(clip: bool, decay: float) -> None:
    weight, bias = nn.Parameter(waves(3, 4, start=0.5)), nn.Parameter(waves(4, start=0.9))
    optimiser = lars([weight, bias], 0.5, decay, 0.02, clip=clip)
    expected = [weight.detach().clone(), bias.detach().clone()]
    moving = [torch.zeros(3, 4), torch.zeros(4)]
    for step in (0, 1, 2):
        gradients = [waves(3, 4, start=2.0 + step), waves(4, start=3.0 + step)]
        for place, gradient in enumerate(gradients):
            own = expected[place]
            if place == 0:
                ratio = 0.02 * own.norm() / (gradient.norm() + decay * own.norm())
                ratio = min(float(ratio) / 0.5, 1) if clip else float(ratio)
                gradient = ratio * (gradient + decay * own)
            moving[place] = 0.9 * moving[place] + gradient
            expected[place] = own - 0.5 * moving[place]
        weight.grad, bias.grad = gradients
        optimiser.step()
    torch.testing.assert_close(weight.detach(), expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bias.detach(), expected[1], rtol=1e-4, atol=1e-6)
