"""Mean and standard deviation of a source against NumPy's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from coterie.types import ItemSpec
from coterie.views import normalisation, normalise
from coterie.views.normalise import unit_range


@dataclass
class Rows:
    """Items in memory, which note what was asked for."""

    data: torch.Tensor

    def __post_init__(self) -> None:
        self.taken: list[int] = []

    @property
    def spec(self) -> ItemSpec:
        if self.data.ndim == 2:
            return ItemSpec("embeddings", dim=self.data.shape[1])
        return ItemSpec("images", *self.data.shape[1:])

    def __len__(self) -> int:
        return len(self.data)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        self.taken += index.tolist()
        return self.data[index]


@pytest.mark.parametrize("channels", [1, 3])
def test_image_moments_are_numpys(channels):
    images = torch.randint(0, 200, (600, channels, 6, 9), dtype=torch.uint8)
    mean, std = normalisation(Rows(images))
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-5)


def test_blank_images_have_the_smallest_deviation():
    mean, std = normalisation(Rows(torch.full((5, 1, 4, 4), 51, dtype=torch.uint8)))
    assert float(mean) == pytest.approx(0.2)
    assert float(std) == pytest.approx(1e-3)


def test_few_features_are_standardised_each_and_constant_ones_get_one():
    vectors = torch.randn(300, 5) * torch.tensor([1.0, 10.0, 0.1, 3.0, 0.0]) + torch.tensor([0.0, 5.0, 1.0, -2.0, 1e4])
    mean, std = normalisation(Rows(vectors))
    np.testing.assert_allclose(mean, vectors.numpy().astype(np.float64).mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std[:4], vectors.numpy().astype(np.float64).std(0)[:4], rtol=1e-4)
    assert float(std[4]) == 1.0


def test_many_features_share_one_deviation_so_that_the_geometry_stays():
    vectors = torch.randn(200, 64) * torch.linspace(0.1, 2, 64) + 3
    mean, std = normalisation(Rows(vectors))
    assert mean.shape == std.shape == (64,)
    assert torch.equal(std, std[:1].expand(64))
    done = normalise(vectors, mean, std)
    assert float(done.square().mean()) == pytest.approx(1.0, rel=1e-4)
    ratio = torch.cdist(done, done) / torch.cdist(vectors, vectors).clamp(min=1e-6)
    off_diagonal = ratio[~torch.eye(200, dtype=torch.bool)]
    assert float(off_diagonal.max() / off_diagonal.min()) == pytest.approx(1.0, abs=1e-3)


def test_identical_vectors_get_one():
    _, std = normalisation(Rows(torch.full((4, 70), 2.5)))
    assert torch.equal(std, torch.ones(70))


def test_the_sample_is_fixed_and_spread_over_the_source():
    first, again = Rows(torch.randn(1000, 3)), Rows(torch.randn(1000, 3))
    normalisation(first, sample=11)
    normalisation(again, sample=11)
    assert first.taken == again.taken
    assert len(set(first.taken)) == 11
    assert (first.taken[0], first.taken[-1]) == (0, 999)
    assert max(np.diff(first.taken)) <= 100


def test_the_unit_range_keeps_pixels_and_brings_each_feature_into_it():
    images = Rows(torch.randint(0, 200, (5, 3, 4, 4), dtype=torch.uint8))
    assert [moment.tolist() for moment in unit_range(images)] == [[0.0] * 3, [1.0] * 3]
    vectors = torch.tensor([[1.0, -2.0, 7.0], [3.0, 2.0, 7.0], [2.0, 0.0, 7.0]])
    scaled = normalise(vectors.clone(), *unit_range(Rows(vectors)))
    assert scaled.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
