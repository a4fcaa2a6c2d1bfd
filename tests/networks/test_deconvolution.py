from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from sklearn.linear_model import Lasso
from torch import Tensor

from coterie.networks.backbones import build_backbone
from coterie.networks.deconvolution import SparseCoder, SparseLayer, coder_of
from coterie.networks.net import Net
from coterie.types import InputError, ItemSpec


def layer_of(channels: int = 2, reached: list[list[int]] | None = None, side: int = 3) -> SparseLayer:
    torch.manual_seed(0)
    return SparseLayer(channels, [[0], [1], [0, 1]] if reached is None else reached, side)


def given_of(*shape: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def coder_in(spec: ItemSpec, name: str = "decnn-4") -> SparseCoder:
    torch.manual_seed(0)
    return coder_of(Net(build_backbone(name, spec), spec, torch.zeros(1), torch.ones(1), half=False))


def matrix_of(layer: SparseLayer, height: int, width: int) -> np.ndarray:
    """Rebuilding as a matrix, column by column by scipy's convolution: from all values of the maps to an image's."""
    kernels, side = layer.kernels().detach().numpy(), layer.filters.shape[-1]
    columns = []
    for k in range(kernels.shape[1]):
        for i in range(height + side - 1):
            for j in range(width + side - 1):
                z = np.zeros((height + side - 1, width + side - 1))
                z[i, j] = 1
                flipped = kernels[:, k, ::-1, ::-1]
                columns.append(np.stack([convolve2d(z, f, "valid") for f in flipped]).ravel())
    return np.stack(columns, 1)


def test_rebuilding_is_the_sum_of_the_maps_convolved_with_their_filters() -> None:
    layer, codes = layer_of(), given_of(1, 3, 7, 6)
    expected = matrix_of(layer, 5, 4) @ codes.numpy().ravel()
    np.testing.assert_allclose(layer.rebuild(codes).detach().numpy().ravel(), expected, atol=1e-5)


def test_a_map_touches_no_channel_that_it_does_not_reach() -> None:
    layer = layer_of()
    codes = torch.zeros(1, 3, 7, 6)
    codes[:, 0] = 1.0
    assert not layer.rebuild(codes)[:, 1].any()
    layer.rebuild(given_of(1, 3, 7, 6)).square().sum().backward()
    assert layer.filters.grad is not None
    assert not layer.filters.grad[1, 0].any()


@pytest.mark.parametrize("fidelity", [0.5, 2.0])
def test_the_maps_are_those_of_least_cost_by_another_solver(fidelity: float) -> None:
    layer, given = layer_of(), given_of(2, 2, 5, 4)
    codes = layer.codes(given, fidelity, 500).detach()
    basis = matrix_of(layer, 5, 4)
    for one, found in zip(given, codes, strict=True):
        # scikit-learn divides the squared error by twice the number of values
        solver = Lasso(alpha=1 / (fidelity * len(basis)), fit_intercept=False, tol=1e-10, max_iter=100_000)
        best = solver.fit(basis, one.numpy().ravel()).coef_
        np.testing.assert_allclose(basis @ found.numpy().ravel(), basis @ best, atol=1e-3)
        assert np.abs(found.numpy()).sum() == pytest.approx(np.abs(best).sum(), rel=1e-3)


def test_the_cost_falls_with_more_iterations_and_its_terms_are_the_papers() -> None:
    layer, given = layer_of(), given_of(4, 2, 9, 9)
    costs = [float(sum(layer.cost(given, layer.codes(given, 1.0, n), 1.0)).sum().detach()) for n in (1, 5, 50, 500)]
    assert costs == sorted(costs, reverse=True)
    codes = layer.codes(given, 1.0, 5)
    error, size = layer.cost(given, codes, 3.0)
    for b in range(4):
        rest = (layer.rebuild(codes[b : b + 1]) - given[b]).flatten().tolist()
        assert error[b].item() == pytest.approx(1.5 * sum(r * r for r in rest), rel=1e-4)
        assert size[b].item() == pytest.approx(sum(abs(z) for z in codes[b].flatten().tolist()), rel=1e-4)


def test_the_curvature_is_no_less_than_that_of_rebuilding() -> None:
    for side in (1, 2, 3):
        layer = layer_of(side=side)
        basis = matrix_of(layer, 6, 5)
        largest = float(np.linalg.eigvalsh(basis @ basis.T)[-1])
        assert largest * 0.9999 <= layer.curvature((6, 5)) <= 2 * largest


def test_filters_begin_at_length_1_and_only_longer_ones_are_shortened() -> None:
    layer = layer_of()
    torch.testing.assert_close(layer.filters.detach().flatten(2).norm(dim=2), torch.ones(2, 3))
    with torch.no_grad():
        layer.filters[0, 0] *= 3
        layer.filters[0, 1] *= 0.5
    before = layer.filters.detach().clone()
    layer.shorten()
    torch.testing.assert_close(layer.filters.detach()[0, 0], before[0, 0] / 3)
    assert torch.equal(layer.filters.detach()[0, 1], before[0, 1])


def test_filters_of_nothing_give_maps_of_nothing() -> None:
    layer = layer_of()
    with torch.no_grad():
        layer.filters.zero_()
    assert not layer.codes(given_of(1, 2, 5, 5), 1.0, 5).any()


def test_the_papers_sizes() -> None:
    coder = coder_in(ItemSpec("images", 1, 28, 28), "decnn")
    assert coder.first.filters.shape == (1, 9, 7, 7)
    assert coder.second.filters.shape == (9, 45, 7, 7)
    assert coder.second.links.sum(0).tolist() == [1] * 9 + [2] * 36
    assert coder.length == 16 * 54


@pytest.mark.parametrize(
    "spec", [ItemSpec("images", 3, 8, 8), ItemSpec("images", 1, 1, 1), ItemSpec("images", 2, 20, 9),
             ItemSpec("images", 3, 90, 70)]
)  # fmt: skip
def test_images_of_any_size_have_features(spec: ItemSpec) -> None:
    torch.manual_seed(0)
    trunk = build_backbone("decnn-2", spec)
    features = trunk(torch.rand(2, spec.channels, spec.height, spec.width))
    assert features.shape == (2, trunk.num_features) == (2, 16 * 5)
    assert bool(torch.isfinite(features).all())


def test_features_are_the_largest_code_of_each_of_sixteen_squares() -> None:
    coder = coder_in(ItemSpec("images", 1, 10, 10))  # filters of 5 pixels, so maps of 14 and 18
    images = torch.rand(3, 1, 10, 10)
    first = coder.codes(coder.first, coder.even(images))
    pooled = coder(images).detach()
    assert first.shape == (3, 4, 14, 14)
    corner = first[:, :, :4, :4].abs().amax((2, 3))  # of 14 pixels the first quarter reaches into the fourth
    torch.testing.assert_close(pooled[:, : 16 * 4 : 16], corner)


def test_brightness_and_contrast_of_a_channel_do_not_matter_and_even_images_have_no_codes() -> None:
    coder = coder_in(ItemSpec("images", 2, 8, 8))
    images = torch.rand(3, 2, 8, 8)
    gain, shift = torch.tensor([0.5, 0.8]).view(-1, 1, 1), torch.tensor([0.3, 0.1]).view(-1, 1, 1)
    torch.testing.assert_close(coder(images * gain + shift), coder(images), atol=1e-3, rtol=1e-3)
    assert not coder(torch.full((1, 2, 8, 8), 0.7)).any()


def test_other_backbones_and_embeddings_are_refused() -> None:
    spec = ItemSpec("images", 1, 8, 8)
    with pytest.raises(InputError, match="Unknown backbone 'decnn-x'"):
        build_backbone("decnn-x", spec)
    with pytest.raises(InputError, match="reads images"):
        build_backbone("decnn-4", ItemSpec("embeddings", dim=9))
    net = Net(build_backbone("small-4", spec), spec, torch.zeros(1), torch.ones(1), half=False)
    with pytest.raises(InputError, match="no other backbone has: leave --backbone or --init out"):
        coder_of(net)
