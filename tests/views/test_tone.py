"""Tone operations against torchvision; where PIL's integer rule is meant, against its uint8 result."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as reference

from coterie.views import tone

CLOSE = {"rtol": 0.0, "atol": 2e-6}


def levels(b: int, channels: int, h: int = 23, w: int = 17) -> torch.Tensor:
    """uint8 images: smooth, skewed, two-level and constant ones."""
    images = torch.randint(0, 256, (b, channels, h, w), dtype=torch.uint8)
    images[1] = (torch.rand(channels, h, w) ** 3 * 200).to(torch.uint8)
    images[2] = 40
    images[3] = torch.where(torch.rand(channels, h, w) < 0.3, 10, 250).to(torch.uint8)
    images[4, 0] = 255
    return images


@pytest.mark.parametrize("channels", [1, 3])
def test_solarise_is_torchvisions(channels):
    images, threshold = torch.rand(6, channels, 9, 12), torch.linspace(0, 1, 6)
    got = tone.solarise(images, threshold)
    for i in range(6):
        torch.testing.assert_close(got[i], reference.solarize(images[i], float(threshold[i])), **CLOSE)


def test_solarise_with_a_threshold_above_white_changes_nothing():
    images = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(tone.solarise(images, torch.full((2,), 256 / 255)), images, **CLOSE)


@pytest.mark.parametrize("channels", [1, 3])
def test_posterise_is_torchvisions_on_bytes(channels):
    images, bits = levels(9, channels), torch.arange(9)
    got = tone.posterise(images / 255, bits)
    for i in range(9):
        want = reference.posterize(images[i], int(bits[i])) / 255
        torch.testing.assert_close(got[i], want, **CLOSE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(23, 17), (5, 6), (60, 70)], ids=["some", "few", "many"])
def test_equalise_is_torchvisions(channels, size):
    images = levels(8, channels, *size)
    got = tone.equalise(images / 255)
    fractions = torch.rand(3, channels, *size)
    for i in range(8):
        torch.testing.assert_close(got[i], reference.equalize(images[i]) / 255, **CLOSE)
    for i in range(3):
        torch.testing.assert_close(tone.equalise(fractions)[i], reference.equalize(fractions[i]), **CLOSE)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_is_torchvisions(channels):
    images = torch.rand(5, channels, 8, 13) * 0.5 + 0.2
    images[1] = 0.25
    images[2, 0] = 0.0
    got = tone.autocontrast(images)
    for i in range(5):
        torch.testing.assert_close(got[i], reference.autocontrast(images[i]), **CLOSE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 13), (3, 3), (2, 9)])
def test_sharpness_is_torchvisions(channels, size):
    images, factor = torch.rand(5, channels, *size), torch.tensor([0.0, 0.05, 0.95, 1.0, 1.9])
    got = tone.sharpness(images, factor)
    for i in range(5):
        want = reference.adjust_sharpness(images[i], float(factor[i]))
        torch.testing.assert_close(got[i], want, **CLOSE)
