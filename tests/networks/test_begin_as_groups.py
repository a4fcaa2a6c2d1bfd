from __future__ import annotations

import pytest
import torch
from sklearn.datasets import make_blobs

from coterie.algorithms.kmeans import kmeans
from coterie.networks.heads import (
    PrototypeHead,
    begin_as_groups,
    mlp_head,
    standardise_rows,
    variance_per_dimension,
)


def begun(d: int, k: int, hidden: int = 20) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A head that begins as K-means' groups of some blobs, the blobs, and their groups."""
    features = torch.from_numpy(make_blobs(200, n_features=d, centers=k, random_state=d)[0]).float()
    rows, generator = standardise_rows(features), torch.Generator().manual_seed(0)
    groups = kmeans(rows, k, generator=generator, restarts=5).labels
    head = mlp_head(d, hidden, k)
    begin_as_groups(head, features, kmeans(rows, hidden, generator=generator).centres, groups)
    return head, features, groups


@pytest.mark.parametrize(("d", "k"), [(6, 3), (40, 5)])
@torch.no_grad()
def test_a_head_gives_its_groups_in_both_modes(d, k):
    head, features, groups = begun(d, k)
    answers = [head.train(mode)(features.clone()) for mode in (False, True)]
    assert (answers[0].argmax(1) == groups).float().mean() > 0.98
    assert torch.allclose(answers[0].softmax(1), answers[1].softmax(1), atol=0.02)


@torch.no_grad()
def test_the_answer_is_the_posterior_of_a_spherical_mixture():
    """The slow way: the densities of every item under every group's Gaussian, one by one."""
    head, features, groups = begun(6, 3)
    activations = (features @ head[0].weight.T).relu().double()
    means = torch.stack([activations[groups == group].mean(0) for group in range(3)])
    spread = variance_per_dimension(activations - means[groups])
    for row in range(0, 200, 17):
        logs = torch.stack([-((activations[row] - mean) ** 2).sum() / (2 * spread) for mean in means])
        expected = (logs - logs.max()).exp() / (logs - logs.max()).exp().sum()
        found = head.eval()(features[row : row + 1])[0].softmax(0)
        assert torch.allclose(found.double(), expected, atol=2e-3)


def test_variance_is_counted_by_effective_dimension():
    """Noise in 3 of 50 dimensions: the sum of the variances over 3, not over 50."""
    rest = torch.zeros(20_000, 50)
    rest[:, :3] = 2 * torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    assert float(variance_per_dimension(rest)) == pytest.approx(4, rel=0.05)


@torch.no_grad()
def test_an_empty_group_and_identical_items_give_finite_answers():
    features = torch.ones(10, 4) * torch.arange(4)
    head = mlp_head(4, 6, 3)
    begin_as_groups(head, features, torch.randn(6, 4), torch.zeros(10, dtype=torch.long))
    assert head.eval()(features).isfinite().all()


@pytest.mark.parametrize("exponent", [-25, -17, 20, 40])
def test_the_size_of_features_changes_no_posterior(exponent: int) -> None:
    scale = 2.0**exponent
    rest = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2, 1, 1, 1, 1])
    assert float(variance_per_dimension(scale * rest)) == pytest.approx(scale**2 * float(variance_per_dimension(rest)))
    groups = torch.arange(500) % 4
    features = rest + 4 * groups[:, None]
    centres = torch.stack([features[groups == group].mean(0) for group in range(4)])
    answers = []
    for size in (1.0, scale):
        head = PrototypeHead(6, 4, standardise=False)
        head.place(size * centres, size * features, groups)
        answers.append(head(size * features).softmax(1))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-5, atol=1e-6)


def test_a_posterior_far_from_0_does_not_follow_rounding() -> None:
    """Copies of two points: as sure as can be, and sums of squares that float32 cannot hold decide nothing."""
    points = torch.tensor([[3000.0, 1.0], [3000.0, 2.0]]).repeat(20, 1)
    head = PrototypeHead(2, 2, standardise=False)
    head.place(points[:2], points, torch.arange(40) % 2)
    assert float(head.variance) == pytest.approx(1e-8 * 0.25 + torch.finfo(torch.float32).eps ** 2 * 9e6, rel=1e-3)
    assert head(torch.zeros(3, 2)).isfinite().all()
    head.place(torch.zeros(2, 2), torch.zeros(40, 2), torch.arange(40) % 2)
    assert torch.allclose(head(points).softmax(1), torch.full((40, 2), 0.5))
