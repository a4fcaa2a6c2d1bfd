"""Distortions of embeddings: what they promise about size, share and sign."""

from __future__ import annotations

import pytest
import torch

from coterie.views.draw import Draw
from coterie.views.embeddings import feature_dropout, gaussian_noise, mix


def seeded(n: int) -> Draw:
    return Draw(torch.Generator().manual_seed(0), n)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.6])
def test_dropout_zeroes_that_share_and_keeps_the_rest(p):
    vectors = torch.rand(400, 50) + 1
    got = feature_dropout(vectors, seeded(400), p)
    dropped = got == 0
    assert abs(float(dropped.float().mean()) - p) < 0.01  # 20,000 trials: two to three standard deviations at most
    assert torch.equal(got[~dropped], vectors[~dropped])


def test_noise_has_the_scale_asked_for():
    got = gaussian_noise(torch.zeros(400, 50), seeded(400), 0.3)
    assert float(got.std()) == pytest.approx(0.3, rel=0.03)
    assert float(got.mean()) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("n", [6, 7])
def test_mix_moves_each_vector_towards_its_partner(n):
    vectors = torch.eye(n)
    got = mix(vectors, seeded(n), 0.2)
    for i in range(n):
        partner = min(i ^ 1, n - 1)
        share = float(got[i, partner]) if partner != i else 0.0
        want = vectors[i] + share * (vectors[partner] - vectors[i])
        assert (0 < share < 0.2) == (partner != i)
        torch.testing.assert_close(got[i], want)
