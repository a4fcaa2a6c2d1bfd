"""Where pixels go: crops, flips and affine warps, each image of the batch with its own parameters."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from coterie.views.draw import Draw
from coterie.views.settings import ViewSettings

Interpolation = Literal["bilinear", "bicubic"]
TRIES = 10  # rejected crop boxes before the centre crop is taken, as in torchvision


def crop_resize(
    images: Float[Tensor, "b c h w"],
    top: Int[Tensor, " b"],
    left: Int[Tensor, " b"],
    height: Int[Tensor, " b"],
    width: Int[Tensor, " b"],
    out: tuple[int, int],
    interpolation: Interpolation = "bilinear",
    flip: Bool[Tensor, " b"] | None = None,
) -> Tensor:
    """Cut a box out of each image and resize it to `out`: torchvision's `resized_crop` with antialiasing.

    Resampling is linear and separable, so each image is `R @ image @ C.T` with its own two interpolation matrices, and
    the batch is two batched matrix products. `flip` mirrors an image left to right by reversing the rows of its C,
    which costs nothing. Bicubic overshoots are clamped to [0, 1].
    """
    h, w = images.shape[2:]
    down = _interpolation_matrix(top, height, h, out[0], interpolation)
    across = _interpolation_matrix(left, width, w, out[1], interpolation, flip)
    resized = resample(images, down, across)
    return resized.clamp_(0, 1) if interpolation == "bicubic" else resized


def resample(
    images: Float[Tensor, "b c h w"], down: Float[Tensor, "b p h"], across: Float[Tensor, "b q w"]
) -> Float[Tensor, "b c p q"]:
    """`down @ image @ across.T` for every channel: any linear operation that treats rows and columns apart."""
    b, c, h, w = images.shape
    rows = torch.bmm(images.reshape(b, c * h, w), across.mT).view(b, c, h, -1)
    # Channel by channel, because a broadcast product would first copy the matrices for every channel.
    return torch.stack([torch.bmm(down, channel) for channel in rows.unbind(1)], 1)


def _interpolation_matrix(
    start: Int[Tensor, " b"],
    length: Int[Tensor, " b"],
    size: int,
    out: int,
    interpolation: Interpolation,
    reverse: Bool[Tensor, " b"] | None = None,
) -> Float[Tensor, "b o s"]:
    """Row i holds the weights of the `size` input pixels in output pixel i; rows sum to 1.

    The filter is centred on the output pixel's place in the box and, when the box is larger than the output, widened by
    their ratio, which is what antialiasing means here. Pixels outside the box weigh nothing.
    """
    device = start.device
    first, length = start.float(), length.float()
    place = torch.arange(out, device=device) + 0.5
    places = place.expand(len(start), out)
    if reverse is not None:
        places = torch.where(reverse[:, None], out - place, place)
    ratio = length / out
    per_pixel = 1 / ratio.clamp(min=1)
    centre = (places * ratio[:, None] + first[:, None]) * per_pixel[:, None]
    pixel = torch.arange(size, device=device) + 0.5
    distance = (pixel * per_pixel[:, None])[:, None] - centre[:, :, None]
    weights = _triangle(distance.abs_()) if interpolation == "bilinear" else _keys_cubic(distance.abs_())
    inside = (pixel > first[:, None]) & (pixel < (first + length)[:, None])
    weights.mul_(inside[:, None].to(weights.dtype))
    return weights.div_(weights.sum(2, keepdim=True))


def _triangle(x: Tensor) -> Tensor:
    return x.neg_().add_(1).relu_()


def _keys_cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5 (PIL's bicubic) for x >= 0, written without branches.

    With u = max(2 - x, 0) and v = max(1 - x, 0) it is u^2 (u - 1) / 2 + v^2 (1 - 2v): the first term alone is the
    cubic's outer piece, the second adds what the inner piece has more.
    """
    u, v = (2 - x).relu_(), (1 - x).relu_()
    outer = (u - 1).mul_(u).mul_(u).mul_(0.5)
    return outer.addcmul_(v.square(), v.mul_(-2).add_(1))


def random_resized_crop_boxes(
    draw: Draw,
    size: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw (top, left, height, width), int64 (b,) each, distributed as torchvision's `RandomResizedCrop`.

    scale: share of the area. ratio: width / height, uniform in its logarithm. The first of ten tries that fits counts;
    an image for which none fits gets the largest centred box of an allowed ratio. All tries are always drawn, so that
    the random numbers used do not depend on which images this process holds.
    """
    h, w = size
    # Uniform numbers from normal ones, since only `normal` draws several for each item in one call.
    share, place = torch.special.ndtr(draw.normal(2, TRIES)).permute(1, 2, 0)
    area = (scale[0] + (scale[1] - scale[0]) * share) * (h * w)
    aspect = (math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * place).exp_()
    widths, heights = (area * aspect).sqrt_().round_(), (area / aspect).sqrt_().round_()
    fits = (widths > 0) & (widths <= w) & (heights > 0) & (heights <= h)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)
    # The centre crop: the whole image, cut where it is narrower or wider than the ratios allow.
    whole_h = max(1, round(w / ratio[0])) if w / h < ratio[0] else h
    whole_w = max(1, round(h * ratio[1])) if w / h > ratio[1] else w
    height = torch.where(found, heights.gather(0, first)[0], float(whole_h)).long()
    width = torch.where(found, widths.gather(0, first)[0], float(whole_w)).long()
    top, left = (draw.uniform() * (h - height + 1)).long(), (draw.uniform() * (w - width + 1)).long()
    # uniform() * n can round up to n in float32
    top, left = torch.minimum(top, h - height), torch.minimum(left, w - width)
    return (
        torch.where(found, top, (h - whole_h) // 2),
        torch.where(found, left, (w - whole_w) // 2),
        height,
        width,
    )


def enlarge_and_crop(images: Float[Tensor, "b c h w"], draw: Draw, factor: float) -> Float[Tensor, "b c h w"]:
    """Resize all images by `factor` >= 1, bilinearly, and cut a random window of the old size out of each."""
    h, w = images.shape[2:]
    large = F.interpolate(images, size=(round(factor * h), round(factor * w)), mode="bilinear", align_corners=False)
    return random_window(large, draw, h, w)


def pad_and_crop(images: Float[Tensor, "b c h w"], draw: Draw, margin: int) -> Float[Tensor, "b c h w"]:
    """Put a black border of `margin` pixels around all images and cut a random window of the old size out of each."""
    h, w = images.shape[2:]
    return random_window(F.pad(images, [margin] * 4), draw, h, w)


def random_window(large: Float[Tensor, "b c p q"], draw: Draw, h: int, w: int) -> Float[Tensor, "b c h w"]:
    """A window of h × w pixels out of each image, every place as likely."""
    top = draw.integers(0, large.shape[2] - h + 1)[:, None] + torch.arange(h, device=large.device)
    left = draw.integers(0, large.shape[3] - w + 1)[:, None] + torch.arange(w, device=large.device)
    row = torch.arange(len(large), device=large.device)[:, None, None]
    # An index in front and behind puts the channels last.
    return large[row, :, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)


def enlarged_centre(images: Float[Tensor, "b c h w"], factor: float) -> Float[Tensor, "b c h w"]:
    """Resize all images by `factor` >= 1, bilinearly, and cut the window of the old size out of the middle."""
    h, w = images.shape[2:]
    large = F.interpolate(images, size=(round(factor * h), round(factor * w)), mode="bilinear", align_corners=False)
    top, left = round((large.shape[2] - h) / 2), round((large.shape[3] - w) / 2)
    return large[:, :, top : top + h, left : left + w]


def horizontal_flip(images: Float[Tensor, "b c h w"], chosen: Bool[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Mirror the chosen images left to right."""
    out = images.clone()
    rows = chosen.nonzero().squeeze(1)
    return out.index_copy_(0, rows, images.index_select(0, rows).flip(-1))


def turn_and_shift(
    images: Float[Tensor, "b c h w"], draw: Draw, settings: ViewSettings, zoom: float = 0.0
) -> Float[Tensor, "b c h w"]:
    """Turn and shift by the settings' `turn` and `shift`, and zoom by up to this share, with the border repeated."""
    (h, w), still = images.shape[2:], torch.zeros(len(images), device=images.device)
    return affine(
        images,
        angle=draw.uniform(-settings.turn, settings.turn),
        translate_x=draw.uniform(-settings.shift * w, settings.shift * w),
        translate_y=draw.uniform(-settings.shift * h, settings.shift * h),
        shear_x=still,
        shear_y=still,
        scale=draw.uniform(1 - zoom, 1 + zoom) if zoom else still + 1,
        outside="border",
    )


def affine(
    images: Float[Tensor, "b c h w"],
    angle: Float[Tensor, " b"],
    translate_x: Float[Tensor, " b"],
    translate_y: Float[Tensor, " b"],
    shear_x: Float[Tensor, " b"],
    shear_y: Float[Tensor, " b"],
    scale: Float[Tensor, " b"],
    interpolation: Literal["nearest", "bilinear"] = "bilinear",
    outside: Literal["zeros", "border"] = "zeros",
) -> Float[Tensor, "b c h w"]:
    """Rotate, shear, scale and shift about the centre in one resampling: torchvision's `affine`.

    angle, shear_x, shear_y in degrees (positive angles turn clockwise), translations in pixels (right, down), scale > 1
    enlarges. An output pixel p shows the input at M^-1 (p - t) with M = rotation, scale, y shear, x shear; where that
    is outside of the image, 0 or the nearest pixel of the border.
    """
    b, _, h, w = images.shape
    turn, slant_x, slant_y = torch.deg2rad(angle), torch.deg2rad(shear_x), torch.deg2rad(shear_y)
    # M / scale, whose determinant is 1
    m00 = torch.cos(turn - slant_y) / torch.cos(slant_y)
    m10 = torch.sin(turn - slant_y) / torch.cos(slant_y)
    m01 = -(m00 * torch.tan(slant_x) + torch.sin(turn))
    m11 = torch.cos(turn) - m10 * torch.tan(slant_x)
    inverse = torch.stack([m11, -m01, -m10, m00], 1).div_(scale[:, None]).view(b, 2, 2)
    shift = -inverse @ torch.stack([translate_x, translate_y], 1)[:, :, None]
    # Pixel centres counted from the image's centre; the grid is in half sides, not in pixels. (`F.affine_grid` does the
    # same by a matrix product with tiny matrices, many times slower.)
    x = torch.arange(w, device=images.device) - (w - 1) / 2
    y = torch.arange(h, device=images.device) - (h - 1) / 2
    half = torch.tensor([w / 2, h / 2], device=images.device)[:, None]
    by_column = inverse[:, :, :1] * x / half
    by_row = (inverse[:, :, 1:] * y + shift) / half
    grid = by_column.mT[:, None] + by_row.mT[:, :, None]
    return F.grid_sample(images, grid, mode=interpolation, padding_mode=outside, align_corners=False)
