"""Colour operations against torchvision's float result for each image alone."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.views import colour
from coterie.views.draw import Draw

# Same formulas in float32, in another order: a few units in the last place.
CLOSE = {"rtol": 0.0, "atol": 2e-6}


def photos(b: int, channels: int, h: int = 11, w: int = 7) -> torch.Tensor:
    """Random images with the awkward pixels among them: black, white, grey, pure colours, two equal channels."""
    images = torch.rand(b, channels, h, w)
    images[:, :, 0, :2] = torch.tensor([0.0, 1.0])
    images[:, :, 1, 0] = 0.3
    images[:, 0, 2, 0], images[:, 1:, 2, 0] = 1.0, 0.0
    if channels == 3:
        images[:, :, 3, 0] = torch.tensor([0.7, 0.7, 0.2])
        images[:, :, 3, 1] = torch.tensor([0.2, 0.7, 0.7])
        images[:, :, 3, 2] = torch.tensor([0.7, 0.2, 0.7])
    return images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_adjustment_is_torchvisions(name, channels):
    torch.manual_seed(0)
    images = photos(9, channels)
    amount = torch.linspace(-0.5, 0.5, 9) if name == "hue" else torch.linspace(0, 2, 9)
    got = getattr(colour, name)(images, amount)
    for i in range(9):
        want = getattr(reference, f"adjust_{name}")(images[i], float(amount[i]))
        # hue: six times a division by the pixel's colour spread, so some more units in the last place
        torch.testing.assert_close(got[i], want, rtol=0.0, atol=1e-5 if name == "hue" else 2e-6)


@given(st.integers(0, 2**31 - 1), st.floats(-0.5, 0.5))
@settings(deadline=None, max_examples=15)
def test_hue_keeps_value_and_spread_and_turns_back(seed, shift):
    images = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(seed))
    turned = colour.hue(images, torch.full((2,), shift))
    torch.testing.assert_close(turned.amax(1), images.amax(1), **CLOSE)
    torch.testing.assert_close(turned.amin(1), images.amin(1), **CLOSE)
    torch.testing.assert_close(colour.hue(turned, torch.full((2,), -shift)), images, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_greyscale_is_torchvisions(channels):
    images = photos(4, channels)
    got = colour.greyscale(images)
    for i in range(4):
        want = reference.rgb_to_grayscale(images[i], num_output_channels=channels)
        torch.testing.assert_close(got[i], want, **CLOSE)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_the_four_adjustments_in_each_images_own_order(channels):
    torch.manual_seed(0)
    b, images = 60, photos(60, channels)
    got = colour.colour_jitter(images, Draw(torch.Generator().manual_seed(5), b), 0.4, 0.3, 1.5, 0.1, chance=0.7)
    draw = Draw(torch.Generator().manual_seed(5), b)  # the same numbers, in the documented ranges
    amounts = [draw.uniform(0.6, 1.4), draw.uniform(0.7, 1.3), draw.uniform(0.0, 2.5), draw.uniform(-0.1, 0.1)]
    order, changed = draw.permutation(4), draw.chance(0.7)
    assert 0 < int(changed.sum()) < b
    adjust = [
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    ]
    for i in range(b):
        want = images[i]
        for kind in order[i].tolist() if changed[i] else []:
            want = adjust[kind](want, float(amounts[kind][i]))
        torch.testing.assert_close(got[i], want, rtol=0.0, atol=2e-5)


def test_jitter_leaves_its_input_alone():
    images = photos(8, 3)
    before = images.clone()
    colour.colour_jitter(images, Draw(torch.Generator().manual_seed(0), 8))
    assert torch.equal(images, before)
