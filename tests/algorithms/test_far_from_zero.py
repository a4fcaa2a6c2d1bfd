"""A constant added to all features changes no distance, so no label and no confidence.

|x|² - 2 x·y + |y|² of rows far from 0 is a small difference of large numbers, which float32 does not have.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from coterie.algorithms.kmeans import kmeans, kmeans_by_mini_batches
from coterie.algorithms.nearest_mean import NearestMean
from coterie.methods.ddc_uco import squared_distances
from coterie.networks.heads import PrototypeHead, variance_around
from coterie.training.soundness import _standing
from helpers.draws import seeded

FAR = 256.0  # ROWS are multiples of 1/1024, so that not a digit of them is lost there
CENTRES = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
ROWS = CENTRES[torch.arange(200) % 4] + torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
ROWS = (1024 * ROWS).round() / 1024


def prototypes(x: Tensor) -> Tensor:
    head, found = PrototypeHead(8, 4, standardise=False), kmeans(x, 4, generator=seeded())
    head.place(found.centres, x, found.labels)
    return head(x).softmax(1)


def nearest_means(x: Tensor) -> Tensor:
    head, groups = NearestMean(8, 4, "euclidean"), torch.arange(200) % 4
    head.place(x, groups, groups, 0.8)
    return head(x).softmax(1)


def mini_batches(x: Tensor) -> Tensor:
    found = kmeans_by_mini_batches(x, 4, generator=seeded(), restarts=2)
    return torch.cdist(x.double(), found.double())


def standing(x: Tensor) -> Tensor:
    return torch.tensor(_standing(x, kmeans(x, 4, generator=seeded()), 0))


def variance(x: Tensor) -> Tensor:
    return variance_around(x, x + 2**-10)  # far closer to their centres than to 0


@pytest.mark.parametrize(
    "answer", [prototypes, nearest_means, mini_batches, standing, variance, squared_distances], ids=lambda f: f.__name__
)
def test_a_constant_added_to_all_features_changes_no_answer(answer: Callable[[Tensor], Tensor]) -> None:
    here, there = answer(ROWS), answer(ROWS + FAR)
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
