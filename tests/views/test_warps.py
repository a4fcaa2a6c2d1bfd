"""Crops, flips and warps against torchvision's result for each image alone."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy.stats import ks_2samp
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from coterie.views.draw import Draw
from coterie.views.warps import (
    affine,
    crop_resize,
    enlarge_and_crop,
    enlarged_centre,
    horizontal_flip,
    random_resized_crop_boxes,
)

MODES = {mode.value: mode for mode in InterpolationMode}
# Both sides compute in float32 and differ in the order of operations only.
CLOSE = {"rtol": 0.0, "atol": 1e-5}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("out", [(20, 13), (6, 9), (41, 33)], ids=["same", "smaller", "larger"])
def test_crop_resize_is_torchvisions_antialiased_resized_crop(interpolation, channels, out):
    torch.manual_seed(0)
    h, w, b = 20, 13, 24
    images = torch.rand(b, channels, h, w)
    boxes = random_resized_crop_boxes(Draw(torch.Generator().manual_seed(1), b), (h, w), scale=(0.02, 1.0))
    got = crop_resize(images, *boxes, out=out, interpolation=interpolation)
    for i in range(b):
        box = [int(values[i]) for values in boxes]
        want = reference.resized_crop(images[i], *box, list(out), MODES[interpolation], antialias=True)
        torch.testing.assert_close(got[i], want.clamp(0, 1), **CLOSE)


def test_crop_of_the_whole_image_at_its_own_size_changes_nothing():
    images = torch.rand(3, 1, 9, 7)
    zero, h, w = torch.zeros(3, dtype=torch.long), torch.full((3,), 9), torch.full((3,), 7)
    for interpolation in ("bilinear", "bicubic"):
        got = crop_resize(images, zero, zero, h, w, (9, 7), interpolation)
        torch.testing.assert_close(got, images, **CLOSE)


def test_crop_with_flip_is_crop_then_flip():
    images = torch.rand(8, 3, 12, 10)
    boxes = random_resized_crop_boxes(Draw(torch.Generator().manual_seed(1), 8), (12, 10))
    flip = torch.arange(8) % 3 == 0
    got = crop_resize(images, *boxes, out=(12, 10), flip=flip)
    torch.testing.assert_close(got, horizontal_flip(crop_resize(images, *boxes, out=(12, 10)), flip), **CLOSE)


def test_horizontal_flip_mirrors_the_chosen_only():
    images = torch.rand(5, 3, 6, 4)
    chosen = torch.tensor([True, False, True, False, False])
    got = horizontal_flip(images, chosen)
    for i in range(5):
        assert torch.equal(got[i], reference.horizontal_flip(images[i]) if chosen[i] else images[i])


@pytest.mark.parametrize("size", [(32, 32), (20, 31), (40, 9)])
def test_boxes_lie_inside_and_follow_torchvisions_distribution(size):
    """Kolmogorov-Smirnov on each number of the box, 3,000 boxes a side; a wrong rule gives p far below 1e-6."""
    n, scale, ratio = 3000, (0.08, 1.0), (3 / 4, 4 / 3)
    boxes = torch.stack(random_resized_crop_boxes(Draw(torch.Generator().manual_seed(3), n), size, scale, ratio), 1)
    top, left, height, width = boxes.unbind(1)
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() <= size[0]
    assert (left + width).max() <= size[1]
    torch.manual_seed(4)
    blank = torch.zeros(1, *size)
    want = torch.tensor([RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(n)])
    for column in range(4):
        assert ks_2samp(boxes[:, column].numpy(), want[:, column].numpy()).pvalue > 1e-3


def test_boxes_that_never_fit_become_torchvisions_centre_crop():
    for size in ((4, 40), (40, 4), (8, 8)):
        # Ten times the image's area never fits.
        box = random_resized_crop_boxes(Draw(torch.Generator().manual_seed(0), 2), size, scale=(10.0, 10.0))
        want = RandomResizedCrop.get_params(torch.zeros(1, *size), [10.0, 10.0], [3 / 4, 4 / 3])
        assert [tuple(row) for row in torch.stack(box, 1).tolist()] == [tuple(want)] * 2


@pytest.mark.parametrize("ratio", [(0.01, 0.01), (100.0, 100.0)], ids=["narrow", "flat"])
def test_boxes_of_extreme_ratios_hold_at_least_a_pixel(ratio):
    boxes = random_resized_crop_boxes(Draw(torch.Generator().manual_seed(0), 4), (12, 12), ratio=ratio)
    assert min(int(boxes[2].min()), int(boxes[3].min())) == 1
    assert crop_resize(torch.rand(4, 3, 12, 12), *boxes, out=(12, 12)).isfinite().all()


def _warps(b: int, h: int, w: int) -> list[torch.Tensor]:
    def spread(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(b)

    shifts = [spread(-w / 4, w / 4), spread(-h / 4, h / 4)]
    return [spread(-50, 50), *shifts, spread(-20, 20), spread(-20, 20), spread(0.7, 1.4)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (13, 22)])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_affine_is_torchvisions(channels, size, interpolation):
    torch.manual_seed(0)
    images, warps = torch.rand(12, channels, *size), _warps(12, *size)
    got = affine(images, *warps, interpolation=interpolation)
    for i in range(12):
        angle, x, y, shear_x, shear_y, scale = (float(values[i]) for values in warps)
        want = reference.affine(images[i], angle, [x, y], scale, [shear_x, shear_y], interpolation=MODES[interpolation])
        if interpolation == "bilinear":
            # Coordinates of up to 22 pixels carry float32 errors of some 1e-6, times the slope between two pixels.
            torch.testing.assert_close(got[i], want, rtol=0.0, atol=5e-5)
        else:  # a coordinate that lies on the edge between two pixels may round either way
            assert (got[i] - want).abs().gt(1e-6).float().mean() < 0.01


def test_affine_by_bilinear_rotation_alone_is_torchvisions_rotate_the_other_way():
    images, zero = torch.rand(4, 3, 11, 15), torch.zeros(4)
    angle = torch.tensor([-30.0, -7.5, 12.0, 90.0])
    got = affine(images, angle, zero, zero, zero, zero, torch.ones(4))
    for i in range(4):  # torchvision's rotate counts counter-clockwise, its affine clockwise
        want = reference.rotate(images[i], -float(angle[i]), InterpolationMode.BILINEAR)
        torch.testing.assert_close(got[i], want, rtol=0.0, atol=5e-5)


def test_affine_shift_by_whole_pixels_moves_pixels_and_fills_with_zero():
    image, zero = torch.rand(1, 1, 5, 5) + 0.1, torch.zeros(1)
    got = affine(image, zero, zero + 2, zero - 1, zero, zero, zero + 1)
    want = torch.zeros_like(image)
    want[..., :-1, 2:] = image[..., 1:, :-2]
    torch.testing.assert_close(got, want, **CLOSE)
    assert math.isclose(float(got[..., -1, :].abs().sum()), 0.0, abs_tol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (13, 20)])
def test_enlarge_and_crop_is_resize_then_random_crop(size):
    images, factor = torch.rand(40, 3, *size, generator=torch.Generator().manual_seed(1)), 1.25
    found = enlarge_and_crop(images, Draw(torch.Generator().manual_seed(2), 40), factor)
    large = reference.resize(images, [round(factor * side) for side in size], InterpolationMode.BILINEAR)
    windows = [
        (top, left) for top in range(large.shape[2] - size[0] + 1) for left in range(large.shape[3] - size[1] + 1)
    ]
    places = set()
    for image, view in zip(large, found, strict=True):
        errors = [
            float((image[:, top : top + size[0], left : left + size[1]] - view).abs().max()) for top, left in windows
        ]
        assert min(errors) < 1e-5
        places.add(windows[errors.index(min(errors))])
    assert {top for top, _ in places} == {top for top, _ in windows}
    assert {left for _, left in places} == {left for _, left in windows}


@pytest.mark.parametrize(("side", "larger"), [(32, 40), (28, 35), (96, 112), (64, 72), (9, 9)])
def test_the_middle_of_a_larger_image_is_torchvisions(side: int, larger: int) -> None:
    images = torch.rand(2, 3, side, 2 * side, generator=torch.Generator().manual_seed(side))
    size = [round(larger / side * length) for length in images.shape[2:]]
    large = reference.resize(images, size, InterpolationMode.BILINEAR, antialias=False)
    wanted = reference.center_crop(large, list(images.shape[2:]))
    torch.testing.assert_close(enlarged_centre(images, larger / side), wanted)
