from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.algorithms import kmeans as module
from coterie.algorithms.lloyd_bounds import Means, Nearest


def distances(x: torch.Tensor, centres: torch.Tensor) -> np.ndarray:
    return ((x.double().numpy()[:, None] - centres.double().numpy()[None]) ** 2).sum(2)


def as_near(x: torch.Tensor, centres: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether no other centre is nearer than the labels', by more than rounding."""
    d = distances(x, centres)
    own = d[np.arange(len(x)), labels.numpy()]
    return bool((own <= d.min(1) + 1e-4 * (1 + d.mean())).all())


@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 12), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_labels_are_those_of_the_nearest_centre_however_centres_move(draw, k, d, step):
    g = torch.Generator().manual_seed(draw)
    x = torch.randn(60, d, generator=g)
    centres = x[torch.randperm(60, generator=g)[:k]]
    nearest = Nearest(x)
    for _ in range(6):
        assert as_near(x, centres, nearest(centres))
        centres = centres + step * torch.rand(k, 1, generator=g) * torch.randn(k, d, generator=g)


def test_labels_that_were_changed_by_hand_are_looked_at_again():
    x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    nearest, centres = Nearest(x), torch.tensor([[0.0], [5.0]])
    labels = nearest(centres).clone()
    labels[0] = 1
    assert nearest(centres, labels).tolist() == [0, 0, 1, 1]
    assert nearest.looked == 4 + 1


def test_centres_that_stay_cost_nothing():
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)) + 20 * (torch.arange(200) % 3)[:, None]
    nearest, centres = Nearest(x), torch.tensor([[0.0], [20.0], [40.0]]).expand(3, 4).contiguous()
    nearest(centres)
    assert nearest.looked == 200
    nearest(centres + 0.1)
    assert nearest.looked == 200


@given(st.integers(0, 10**6), st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_means_follow_the_labels(draw, k):
    rng = np.random.default_rng(draw)
    x = torch.from_numpy(rng.normal(size=(50, 3)).astype(np.float32))
    means, centres = Means(x, k), torch.full((k, 3), 7.0)
    for _ in range(4):
        labels = rng.integers(0, k, 50) * rng.integers(0, 2, 50)
        centres = means(torch.from_numpy(labels), centres)
        for group in range(k):
            if (labels == group).any():
                wanted = x.double().numpy()[labels == group].mean(0)
                np.testing.assert_allclose(centres[group].numpy(), wanted, rtol=1e-5, atol=1e-6)
    unmoved = centres.clone()
    centres = means(torch.zeros(50, dtype=torch.long), centres)
    assert (centres[1:] == unmoved[1:]).all()  # empty groups keep theirs


def test_very_many_points_are_grouped_as_by_plain_iterations(monkeypatch):
    g = torch.Generator().manual_seed(3)
    x = torch.randn(2000, 5, generator=g) + 2 * torch.randn(8, 5, generator=g)[torch.arange(2000) % 8]
    x = x - x.mean(0)
    start = torch.randperm(2000, generator=g)[:8]
    for spherical in (False, True):
        rows = torch.nn.functional.normalize(x, dim=1) if spherical else x
        plain = module.lloyd(rows, start, origin=torch.zeros(x.shape[1]) if spherical else None)
        with monkeypatch.context() as patched:
            patched.setattr(module, "SEEDING_ROWS", 100)
            bounded = module.lloyd(rows, start, origin=torch.zeros(x.shape[1]) if spherical else None)
        assert abs(plain.inertia - bounded.inertia) < 1e-4 * plain.inertia
        assert (plain.labels != bounded.labels).float().mean() < 0.01
