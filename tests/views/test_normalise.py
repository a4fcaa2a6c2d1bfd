"""Mean and standard deviation of a source against NumPy's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.preprocessing import normalize, scale

from coterie.data import open_source
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.training.plan import RunSettings
from coterie.types import InputError, ItemSpec
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


@pytest.mark.parametrize("dim", [8, 80])
def test_constant_features_become_0_however_large(dim: int) -> None:
    """A rounded mean left 1e6 of 1e20 in each row, beside which nothing else counted: K-means found one group."""
    vectors = torch.randn(199, dim, generator=torch.Generator().manual_seed(0))
    vectors[:, :3] = torch.tensor([1e20, 0.1, -123456.79])
    assert not normalise(vectors.clone(), *normalisation(Rows(vectors)))[:, :3].any()


@pytest.mark.parametrize("shape", [(6, 20), (6, 3, 4, 5)])
def test_rows_are_scaled_as_scikit_learn_does_it(shape: tuple[int, ...]) -> None:
    batch, channels = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.1, shape[1]
    mean, std = torch.zeros(channels), torch.ones(channels)
    rows = batch.flatten(1).double().numpy()
    want = {
        "none": rows,
        "l2": normalize(rows),
        "l2-sqrt-d": normalize(rows) * rows.shape[1] ** 0.5,
        "z-score": scale(rows, axis=1),
    }
    for kind, expected in want.items():
        made = normalise(batch.clone(), mean, std, kind)  # type: ignore[arg-type]
        assert made.shape == batch.shape
        np.testing.assert_allclose(made.flatten(1).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["l2", "l2-sqrt-d", "z-score"])
def test_a_blank_item_stays_finite(kind: str) -> None:
    made = normalise(torch.zeros(2, 1, 4, 4), torch.zeros(1), torch.ones(1), kind)  # type: ignore[arg-type]
    assert torch.equal(made, torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("value", [0.1, 0.3, 1.7])
def test_a_blank_item_that_is_not_black_has_no_z_scores(value: float) -> None:
    made = normalise(torch.full((2, 1, 28, 28), value), torch.zeros(1), torch.full((1,), 0.3), "z-score")
    assert torch.equal(made, torch.zeros(2, 1, 28, 28))


def test_a_model_keeps_the_scaling_of_its_rows_and_so_does_what_goes_on_from_it(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((60, 8, 8), dtype=np.float32)
    short = {"ae.epochs": 2, "views.row_norm": "l2-sqrt-d"}
    first = run(data, RunSettings(3, "ae", overrides=short, device="cpu", calibrate=False), tmp_path / "ae")
    loaded = load_model(tmp_path / "ae")
    assert loaded.net.row_norm == "l2-sqrt-d"
    source = open_source(data * 1.0, like=loaded.spec)
    assert torch.equal(loaded.predict(source).probabilities, first.assignments.probabilities)
    on = RunSettings(3, "dec", init=str(tmp_path / "ae"), overrides={"dec.epochs": 1}, device="cpu", calibrate=False)
    assert run(data, on, tmp_path / "dec").model.net.row_norm == "l2-sqrt-d"
    other = RunSettings(3, "dec", init=str(tmp_path / "ae"), overrides={"views.row_norm": "l2"}, device="cpu")
    with pytest.raises(InputError, match="was trained with l2-sqrt-d"):
        run(data, other, tmp_path / "other")


def test_values_beyond_the_limit_are_cut_off_before_a_row_is_scaled() -> None:
    """A far value would take all of a row's length from the others."""
    rows, still = torch.tensor([[9.0, 3.0], [-100.0, 4.0]]), (torch.zeros(2), torch.ones(2))
    assert normalise(rows, *still, limit=3.0).tolist() == [[3.0, 3.0], [-3.0, 3.0]]
    torch.testing.assert_close(normalise(rows, *still, "l2", 4.0), torch.tensor([[0.8, 0.6], [-(0.5**0.5), 0.5**0.5]]))
