"""Gaussian blur against torchvision's result for each image alone."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as reference

from coterie.views.blur import blur_size, gaussian_blur


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "kernel"), [((16, 16), 3), ((9, 14), 5), ((30, 12), 11)])
def test_blur_is_torchvisions(channels, size, kernel):
    images, sigma = torch.rand(6, channels, *size), torch.linspace(0.1, 3, 6)
    got = gaussian_blur(images, sigma, kernel)
    for i in range(6):
        want = reference.gaussian_blur(images[i], [kernel, kernel], [float(sigma[i])])
        torch.testing.assert_close(got[i], want, rtol=0.0, atol=2e-6)  # separable sums against one double sum


def test_blur_size_holds_three_sigma_within_the_image():
    assert [blur_size(sigma, 32) for sigma in (0.1, 1.0, 2.0)] == [3, 7, 13]
    assert blur_size(2.0, 4) == 7
