"""Random operations: pool members, one at a time, against torchvision on the same magnitudes."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision.transforms.v2.functional as reference

from coterie.views.draw import Draw
from coterie.views.policy import GLYPH_POOL, PHOTO_POOL, random_operations

H, W, N = 12, 15, 16


def torchvisions(name: str, image: torch.Tensor, u: float) -> torch.Tensor:
    """The operation on one float image at share u of its range (spec of the strong view)."""
    factor, either = 0.05 + 0.9 * u, 2 * u - 1
    slant = math.degrees(math.atan(0.1 * either))
    match name:
        case "identity":
            return image
        case "autocontrast":
            return reference.autocontrast(image)
        case "equalise":
            return reference.equalize(image)
        case "solarise":
            return reference.solarize(image, min(1.0, u * 256 / 255))
        case "posterise":
            return reference.posterize((image * 255).round().to(torch.uint8), int(4 + 4 * u)) / 255
        case "sharpness" | "contrast" | "brightness" | "saturation":
            return getattr(reference, f"adjust_{name}")(image, factor)
        case "rotate":
            return reference.affine(image, 30 * either, [0, 0], 1.0, [0, 0])
        case "shear_x":
            return reference.affine(image, 0, [0, 0], 1.0, [slant, 0], center=[0, 0])
        case "shear_y":
            return reference.affine(image, 0, [0, 0], 1.0, [0, slant], center=[0, 0])
        case "translate_x":
            return reference.affine(image, 0, [0.1 * W * either, 0], 1.0, [0, 0])
        case _:
            return reference.affine(image, 0, [0, 0.1 * H * either], 1.0, [0, 0])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PHOTO_POOL)
def test_each_operation_is_torchvisions(name, channels):
    images = torch.randint(0, 256, (N, channels, H, W), generator=torch.Generator().manual_seed(2)) / 255
    got = random_operations(images, Draw(torch.Generator().manual_seed(1), N), rounds=1, pool=[name])
    draw = Draw(torch.Generator().manual_seed(1), N)
    draw.integers(0, 1)
    magnitude = draw.uniform()
    for i in range(N):
        want = torchvisions(name, images[i], float(magnitude[i]))
        # Warps take the nearest pixel, and a coordinate on the edge between two may round either way.
        assert (got[i] - want).abs().gt(1e-5).float().mean() < 0.01


@pytest.mark.parametrize("pool", [PHOTO_POOL, GLYPH_POOL], ids=["photo", "glyph"])
def test_rounds_follow_one_another_and_each_image_has_its_own_operations(pool):
    images = torch.rand(64, 3, H, W, generator=torch.Generator().manual_seed(2))
    before, draw = images.clone(), Draw(torch.Generator().manual_seed(1), 64)
    by_round = images
    for _ in range(3):
        by_round = random_operations(by_round, draw, rounds=1, pool=pool)
    got = random_operations(images, Draw(torch.Generator().manual_seed(1), 64), rounds=3, pool=pool)
    assert torch.equal(got, by_round)
    assert torch.equal(images, before)
    assert got.min() >= 0
    assert got.max() <= 1 + 1e-6
