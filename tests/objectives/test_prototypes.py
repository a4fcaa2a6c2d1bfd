"""Heads that begin as prototypes of the features (CDC, Eq. 6)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from coterie.algorithms.kmeans import assign, kmeans
from coterie.networks.heads import mlp_head, standardise_rows
from coterie.objectives.prototypes import decorrelate, hidden_activations, prototype_weights, write_prototypes
from helpers.draws import seeded
from helpers.mixtures import agreement, mixture


def test_the_first_layers_prototypes_see_past_each_images_scale_and_offset() -> None:
    features, _ = mixture()
    prototypes = kmeans(standardise_rows(features), 12, generator=seeded()).centres
    torch.testing.assert_close(prototypes.sum(1), torch.zeros(12), atol=1e-5, rtol=0)
    assert bool((prototypes.norm(dim=1) <= 1 + 1e-6).all())
    scale, offset = 0.5 + torch.rand(240, 1, generator=seeded(1)), torch.randn(240, 1, generator=seeded(2))
    changed = hidden_activations(scale * features + offset, prototypes)
    torch.testing.assert_close(changed, scale * hidden_activations(features, prototypes), atol=1e-4, rtol=1e-4)


def test_hidden_activations_are_those_of_a_fresh_head_in_evaluation_mode() -> None:
    features, _ = mixture(20)
    head = mlp_head(32, 6, 3).eval()
    weights = torch.randn(6, 32, generator=seeded())
    write_prototypes(head, weights, torch.zeros(3, 6))
    torch.testing.assert_close(hidden_activations(features, weights), head[:3](features))


def centres_like(n: int, d: int) -> Tensor:
    """Rows as long as K-means centres of unit vectors, and as alike as those of a net's features."""
    return 0.7 * F.normalize(torch.randn(n, d, generator=seeded()) + 1)


def cosines(weights: Tensor) -> Tensor:
    table = F.normalize(weights) @ F.normalize(weights).T
    return table[~torch.eye(len(weights), dtype=torch.bool)]


def test_decorrelated_rows_of_a_small_head_become_a_simplex() -> None:
    weights = centres_like(5, 24)
    found = decorrelate(weights)
    torch.testing.assert_close(cosines(found), torch.full((20,), -1 / 4), atol=1e-3, rtol=0)
    assert torch.equal(found, decorrelate(weights))
    assert not found.requires_grad


def test_decorrelation_of_many_rows_brings_them_near_orthogonality() -> None:
    weights = centres_like(48, 48)
    found = decorrelate(weights)
    assert cosines(weights).abs().mean() > 0.4
    assert cosines(found).abs().mean() < 0.05


def by_autograd(weights: Tensor, steps: int) -> Tensor:
    z, w = (weights.clone().requires_grad_() for _ in range(2))
    optimiser = torch.optim.SGD([z, w], lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        cosine = F.normalize(F.relu(z)) @ F.normalize(w).T
        optimiser.zero_grad()
        F.cross_entropy(5 * cosine, torch.arange(len(weights))).backward()
        optimiser.step()
        schedule.step()
    return w.detach()


@pytest.mark.parametrize(("n", "d"), [(40, 24), (6, 90), (1, 3)])
def test_the_gradient_written_out_is_autograds(n: int, d: int) -> None:
    """Also of rows that ReLU cuts off as a whole."""
    weights = centres_like(n, d)
    if n > 3:
        weights[2] = -weights[3].abs()
    torch.testing.assert_close(decorrelate(weights, steps=150), by_autograd(weights, 150), rtol=1e-4, atol=1e-5)


def test_decorrelation_parts_rows_that_are_all_but_equal() -> None:
    weights = centres_like(5, 24)
    weights[1] = weights[0] + 1e-3 * torch.randn(24, generator=seeded(1))
    assert cosines(decorrelate(weights)).max() < 0


def test_decorrelation_refuses_a_zero_row() -> None:
    with pytest.raises(ValueError, match="zero row"):
        decorrelate(torch.stack([torch.zeros(4), torch.ones(4)]))


def test_the_largest_product_with_a_unit_prototype_is_the_nearest() -> None:
    """Proposition 1."""
    z = F.normalize(torch.randn(200, 16, generator=seeded()))
    prototypes = F.normalize(torch.randn(7, 16, generator=seeded(1)))
    assert torch.equal((z @ prototypes.T).argmax(1), assign(z, prototypes)[0])


def test_heads_begin_about_as_good_as_k_means_and_far_above_random_ones() -> None:
    features, labels = mixture(d=128, noise=2.0)
    torch.manual_seed(0)
    head, random_head = (mlp_head(128, 24, 4).eval() for _ in range(2))
    write_prototypes(head, *prototype_weights(features, 24, 4, seeded()))
    with torch.no_grad():
        begun = agreement(head(features).argmax(1), labels)
        random = agreement(random_head(features).argmax(1), labels)
    by_kmeans = agreement(kmeans(standardise_rows(features), 4, generator=seeded(), restarts=5).labels, labels)
    assert begun > by_kmeans - 0.05
    assert begun > random + 0.2
