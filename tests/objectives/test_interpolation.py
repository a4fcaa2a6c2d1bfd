from __future__ import annotations

import torch

from coterie.objectives.interpolation import critic_loss, draw_mixing, interpolate


def test_mixing_is_uniform_up_to_one_half():
    alpha = draw_mixing(20_000, torch.Generator().manual_seed(0))
    assert 0 <= float(alpha.min()) < float(alpha.max()) <= 0.5
    assert abs(float(alpha.mean()) - 0.25) < 0.005
    assert abs(float((alpha < 0.1).float().mean()) - 0.2) < 0.01


def test_without_mixing_the_partners_code_is_left_and_with_one_half_both_are_equal():
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    partner = z.flip(0)
    torch.testing.assert_close(interpolate(z, partner, torch.zeros(6)), partner)
    half = interpolate(z, partner, torch.full((6,), 0.5))
    torch.testing.assert_close(half, half.flip(0))


def test_the_critic_is_right_when_it_tells_the_share_and_nothing_of_real_items():
    alpha = draw_mixing(8, torch.Generator().manual_seed(2))
    loss = critic_loss(alpha, alpha, torch.zeros(8))
    assert loss.shape == (8,)
    assert loss.eq(0).all()
    torch.testing.assert_close(critic_loss(torch.zeros(8), alpha, torch.full((8,), 0.3)), alpha.square() + 0.09)
