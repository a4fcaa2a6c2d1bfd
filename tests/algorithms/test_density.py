from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from coterie.algorithms.density import Density, dbscan, knee, place_density
from coterie.algorithms.nearest_mean import NearestMean


def slow_dbscan(points, radius, min_samples):
    """Groups of core points only; others are -1."""
    near = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") <= radius
    core = near.sum(1) >= min_samples
    labels, group = torch.full((len(points),), -1), 0
    for first in range(len(points)):
        if core[first] and labels[first] < 0:
            queue = [first]
            while queue:
                one = queue.pop()
                if labels[one] < 0:
                    labels[one] = group
                    queue += (near[one] & core).nonzero().flatten().tolist()
            group += 1
    return labels, core


def moons(noise=0.05):
    return torch.from_numpy(make_moons(400, noise=noise, random_state=0)[0]).float()


def blobs_and_noise():
    x, y = make_blobs(600, 8, centers=5, cluster_std=0.4, random_state=0)
    far = np.random.default_rng(0).uniform(-12, 12, (30, 8))
    return torch.from_numpy(np.concatenate([x, far])).float(), y


@pytest.mark.parametrize("min_samples", [3, 5, 10])
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_core_points_are_grouped_as_by_the_obvious_search(min_samples, noise):
    points = moons(noise)
    found = dbscan(points, min_samples)
    labels, core = slow_dbscan(points, found.radius, min_samples)
    assert adjusted_rand_score(labels[core], found.labels[core]) == 1.0
    assert found.groups == int(labels.max()) + 1
    assert found.noise == float((found.labels < 0).double().mean())


@pytest.mark.parametrize("min_samples", [2, 5])
def test_the_radius_is_the_knee_of_the_distances_that_scikit_learn_measures(min_samples):
    """A point is the first of the `min_samples` near it."""
    points = blobs_and_noise()[0]
    measured, _ = NearestNeighbors(n_neighbors=min_samples).fit(points).kneighbors(points)
    assert dbscan(points, min_samples).radius == pytest.approx(knee(torch.from_numpy(measured[:, -1])), rel=1e-4)


def test_groups_are_numbered_in_the_order_of_their_first_points():
    labels = dbscan(moons()).labels
    _, first = np.unique(labels[labels >= 0], return_index=True)
    assert (np.diff(first) > 0).all()


def test_far_groups_and_strangers_are_told_apart():
    points, y = blobs_and_noise()
    found = dbscan(points)
    assert found.groups == 5
    assert (found.labels[600:] < 0).all()
    dense = (found.labels[:600] >= 0).numpy()
    assert dense.mean() > 0.95
    assert adjusted_rand_score(y[dense], found.labels[:600][dense]) == 1.0


def test_the_knee_is_where_the_curve_turns():
    flat, steep = torch.linspace(1, 2, 90), torch.linspace(3, 50, 10)
    assert knee(torch.cat([steep, flat])[torch.randperm(100)]) == pytest.approx(2.0)


def test_points_that_are_all_one_are_one_group():
    found = dbscan(torch.ones(20, 3))
    assert (found.groups, found.noise) == (1, 0.0)


def test_a_head_answers_with_groups_of_any_form_and_takes_strangers_in():
    x, y = make_moons(400, noise=0.05, random_state=0)
    points, labels = torch.from_numpy(x).float(), torch.from_numpy(y).long()
    found = Density(torch.where(torch.arange(400) % 20 == 3, -1, labels), radius=0.1)
    head = NearestMean(2, 0, "euclidean")
    assert head.k == 0
    place_density(head, points, found)
    assert head.k == found.groups == 2
    p = head(points).softmax(1)
    assert (p.argmax(1) == labels).float().mean() > 0.98
    torch.testing.assert_close(p.sum(1), torch.ones(len(points)))
    assert head(torch.tensor([[30.0, 30.0]])).shape == (1, 2)
