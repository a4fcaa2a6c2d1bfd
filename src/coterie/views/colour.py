"""Colour: brightness, contrast, saturation, hue and greyscale, with torchvision's formulas and clamping.

Images are in [0, 1] and stay there. Only an image of three channels has colour: of any other (grey ones, the slices of
a volume) saturation, hue and greyscale change nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from coterie.views.draw import Draw

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""What a step of the colour jitter does."""
COLOURS = 3  # channels


def luminance(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Grey value by ITU-R 601-2 (the weights that PIL and torchvision use); without colour the channels' mean."""
    if images.shape[1] != COLOURS:
        return images if images.shape[1] == 1 else images.mean(1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def greyscale(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The grey value in every channel."""
    return luminance(images).expand_as(images) if images.shape[1] == COLOURS else images


def brightness(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Blend with black: factor 0 is black, 1 the image, above 1 brighter."""
    return (images * factor[:, None, None, None]).clamp_(0, 1)


def contrast(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Blend with the image's mean grey value: factor 0 is flat grey, 1 the image."""
    return blend(images, factor, torch.full_like(factor, CONTRAST, dtype=torch.long))


def saturation(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Blend with the grey image: factor 0 is grey, 1 the image."""
    return blend(images, factor, torch.full_like(factor, SATURATION, dtype=torch.long))


def blend(
    images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"], kind: Int[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """clamp(factor * image + (1 - factor) * other); per image `kind` says which other: black, mean grey or its grey.

    The three share one formula, so a batch with mixed kinds needs no sorting.
    """
    rest = 1 - factor
    if images.shape[1] != COLOURS:
        factor, rest = torch.where(kind == SATURATION, 1.0, factor), torch.where(kind == SATURATION, 0.0, rest)
    grey = luminance(images)
    flat = grey.mean((2, 3), keepdim=True) * (rest * (kind == CONTRAST))[:, None, None, None]
    other = (grey * (rest * (kind == SATURATION))[:, None, None, None]).add_(flat)
    return torch.addcmul(other, images, factor[:, None, None, None]).clamp_(0, 1)


def hue(images: Float[Tensor, "b c h w"], shift: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Turn the hue by `shift` turns (in [-0.5, 0.5]); HSV's value and saturation stay.

    With the hue H in sextants [0, 6), the channels lie between the pixel's smallest and largest one at the heights
    |H - 3| - 1 (red), 2 - |H - 2| (green) and 2 - |H - 4| (blue), clamped to [0, 1]. Selection by multiplying with
    zeros and ones, because `torch.where` is many times slower on a CPU.
    """
    if images.shape[1] != COLOURS:
        return images
    red, green, blue = images.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    top = torch.maximum(torch.maximum(red, green), blue)
    is_red, is_green = red.clone().eq_(top), green.clone().eq_(top)
    spread = top.sub_(low)
    sextant = (red - green).add_(spread, alpha=4)
    sextant.lerp_((blue - red).add_(spread, alpha=2), is_green).lerp_(green - blue, is_red)
    # A grey pixel has no hue: 0 / tiny = 0, and the spread of 0 leaves it as it is.
    sextant.div_(spread.clamp(min=torch.finfo(spread.dtype).tiny)).add_(shift[:, None, None] * 6)
    sextant.sub_(sextant.div(6).floor_(), alpha=6)
    heights = (
        (sextant - 3).abs_().sub_(1),
        (sextant - 2).abs_().neg_().add_(2),
        (sextant - 4).abs_().neg_().add_(2),
    )
    return torch.stack([height.clamp_(0, 1).mul_(spread).add_(low) for height in heights], 1)


def colour_jitter(
    images: Float[Tensor, "b c h w"],
    draw: Draw,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    chance: float = 1.0,
) -> Float[Tensor, "b c h w"]:
    """Change the four in a random order, as torchvision's `ColorJitter`; an image is changed with probability `chance`.

    Factors are uniform in [max(0, 1 - s), 1 + s], the hue shift in [-hue, hue]. Images are grouped by when their hue
    step comes: within a group every image then does the same kind of step, either `hue` or `blend`.
    """
    factors = torch.stack([draw.uniform(max(0.0, 1 - s), 1 + s) for s in (brightness, contrast, saturation)], 1)
    shift = draw.uniform(-hue, hue)
    order = draw.permutation(4)
    changed = draw.chance(chance)
    out = images.clone()
    for hue_step in range(4):
        rows = (changed & (order[:, hue_step] == HUE)).nonzero().squeeze(1)
        if len(rows) == 0:
            continue
        group, kinds = images.index_select(0, rows), order.index_select(0, rows)
        for step in range(4):
            if step == hue_step:
                group = _turn_hue(group, shift.index_select(0, rows))
            else:
                kind = kinds[:, step]
                group = blend(group, factors.index_select(0, rows).gather(1, kind[:, None]).squeeze(1), kind)
        out.index_copy_(0, rows, group)
    return out


_turn_hue = hue  # the argument `hue` of colour_jitter hides the function
