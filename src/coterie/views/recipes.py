"""The named views: `clean` (only normalised), `weak`, `strong`, `contrastive`, `shifted`, `original`, `perturbed`.

Photographs follow CDC and its MoCo-v2 stage. Glyphs (digits, letters) are shifted, turned, slanted and scaled instead
of cropped and flipped, since a mirrored or half-cut digit is another digit or none. Vectors lose features, get noise
and are mixed. `shifted` is the same for both kinds of images, and `clean` for vectors. `original` and `perturbed` are
PICA's pair, a hardly moved image and a strongly distorted one. Every distortion keeps the size of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from coterie.types import Family
from coterie.views.blur import blur_size, gaussian_blur
from coterie.views.colour import colour_jitter, greyscale
from coterie.views.cutout import random_cutout
from coterie.views.draw import Draw
from coterie.views.embeddings import distort
from coterie.views.geometry import (
    Interpolation,
    affine,
    crop_resize,
    enlarge_and_crop,
    random_resized_crop_boxes,
)
from coterie.views.normalise import normalise
from coterie.views.policy import GLYPH_POOL, PHOTO_POOL, random_operations
from coterie.views.rows import update_rows
from coterie.views.settings import ViewSettings

__all__ = ["RECIPES", "Family", "ViewSettings", "make_views"]

RECIPES = ("clean", "weak", "strong", "contrastive", "shifted", "original", "perturbed")
Recipe = Callable[[Tensor, Draw, ViewSettings], Tensor]


def make_views(
    raw: Tensor,
    names: Sequence[str],
    draw: Draw,
    settings: ViewSettings,
    family: Family,
    mean: Float[Tensor, " c"],
    std: Float[Tensor, " c"],
) -> list[Tensor]:
    """Make one view of the batch for each name, in that order; a name given twice makes two different views.

    raw: uint8 (b, c, h, w) or float (b, d), already on the device where the views are wanted; mean, std: as
    `normalisation` gives them. Views are float32 of raw's shape, normalised. Raises ValueError for an unknown name.
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise ValueError(f"There is no view {unknown[0]!r}; known views are {', '.join(RECIPES)}.")
    mean, std = mean.to(raw.device), std.to(raw.device)
    if family == "vector":
        vectors = normalise(raw.float(), mean, std, settings.row_norm)
        return [_vector_view(vectors, name, draw, settings) for name in names]
    images = raw.float().div_(255)
    recipes = PHOTO if family == "photo" else GLYPH
    views = []
    for name in names:
        view = normalise(recipes[name](images, draw, settings), mean, std, settings.row_norm)
        views.append(random_cutout(view, draw, settings.cutout) if name == "strong" else view)
    return views


def _clean(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return images


def _crop_flip(
    images: Tensor,
    draw: Draw,
    settings: ViewSettings,
    interpolation: Interpolation,
    scale: tuple[float, float] | None = None,
) -> Tensor:
    h, w = images.shape[2:]
    box = random_resized_crop_boxes(draw, (h, w), scale or settings.crop_scale, settings.crop_ratio)
    # Flipping commutes with all that may stand between crop and flip, so it can ride on the crop.
    return crop_resize(images, *box, out=(h, w), interpolation=interpolation, flip=draw.chance(settings.flip))


def _blur(images: Tensor, draw: Draw, chance: float, sigma: tuple[float, float]) -> None:
    """Blur some of the images, in place."""
    size = blur_size(sigma[1], min(images.shape[2:]))
    drawn = draw.uniform(*sigma)
    update_rows(images, draw.chance(chance), lambda part, own: gaussian_blur(part, own, size), drawn)


def _photo_weak(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return _crop_flip(images, draw, settings, "bilinear")


def _photo_strong(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return random_operations(_crop_flip(images, draw, settings, "bilinear"), draw, settings.strong_ops, PHOTO_POOL)


def _photo_contrastive(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    view = _crop_flip(images, draw, settings, "bicubic")
    view = colour_jitter(view, draw, *settings.jitter, chance=settings.jitter_chance)
    update_rows(view, draw.chance(settings.greyscale), greyscale)
    _blur(view, draw, settings.blur, settings.blur_sigma)
    return view


def _photo_original(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return enlarge_and_crop(images, draw, settings.enlarge)


def _photo_perturbed(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    view = _crop_flip(images, draw, settings, "bilinear", settings.perturbed_crop)
    view = colour_jitter(view, draw, *settings.perturbed_jitter)
    update_rows(view, draw.chance(settings.greyscale), greyscale)
    return view


def _warp(images: Tensor, draw: Draw, settings: ViewSettings, strength: float, shear: float) -> Tensor:
    """Shift, turn, slant and scale; `strength` is a share of the settings' amounts, `shear` in degrees."""
    h, w = images.shape[2:]
    shift, turn = strength * settings.glyph_shift, strength * settings.glyph_rotate
    smallest, largest = (1 + strength * (limit - 1) for limit in settings.glyph_scale)
    return affine(
        images,
        angle=draw.uniform(-turn, turn),
        translate_x=draw.uniform(-shift * w, shift * w),
        translate_y=draw.uniform(-shift * h, shift * h),
        shear_x=draw.uniform(-shear, shear),
        shear_y=torch.zeros(len(images), device=images.device),  # a rotation and a shear in x make any shear in y
        scale=draw.uniform(smallest, largest),
    )


def _shifted(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    """Shift and turn a little, with the border's pixels repeated: the augmentation of the auto-encoder papers."""
    if settings.shift == settings.turn == 0:
        return images
    (h, w), still = images.shape[2:], torch.zeros(len(images), device=images.device)
    return affine(
        images,
        angle=draw.uniform(-settings.turn, settings.turn),
        translate_x=draw.uniform(-settings.shift * w, settings.shift * w),
        translate_y=draw.uniform(-settings.shift * h, settings.shift * h),
        shear_x=still,
        shear_y=still,
        scale=still + 1,
        outside="border",
    )


def _glyph_weak(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return _warp(images, draw, settings, settings.glyph_weak, shear=0.0)


def _glyph_strong(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    view = _warp(images, draw, settings, 1.0, settings.glyph_shear)
    return random_operations(view, draw, settings.strong_ops, GLYPH_POOL)


def _glyph_contrastive(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    view = _warp(images, draw, settings, 1.0, settings.glyph_shear)
    brightness, contrast = settings.glyph_jitter
    view = colour_jitter(view, draw, brightness, contrast, 0.0, 0.0, chance=settings.jitter_chance)
    _blur(view, draw, settings.glyph_blur, settings.glyph_blur_sigma)
    return view


def _glyph_perturbed(images: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    brightness, contrast = settings.glyph_jitter
    return colour_jitter(_warp(images, draw, settings, 1.0, settings.glyph_shear), draw, brightness, contrast, 0.0, 0.0)


def _vector_view(vectors: Tensor, name: str, draw: Draw, settings: ViewSettings) -> Tensor:
    if name in ("clean", "shifted"):  # there is no such thing as a little to the left in a vector
        return vectors
    strong, contrastive = settings.vector_strong, settings.vector_contrastive
    times = {"weak": 1.0, "contrastive": contrastive, "strong": strong, "original": 1.0, "perturbed": contrastive}[name]
    dropout, mixing = (min(1.0, times * share) for share in (settings.vector_dropout, settings.vector_mix))
    return distort(vectors, draw, dropout, times * settings.vector_noise, mixing)


PHOTO: dict[str, Recipe] = {
    "clean": _clean,
    "weak": _photo_weak,
    "strong": _photo_strong,
    "contrastive": _photo_contrastive,
    "shifted": _shifted,
    "original": _photo_original,
    "perturbed": _photo_perturbed,
}
GLYPH: dict[str, Recipe] = {
    "clean": _clean,
    "weak": _glyph_weak,
    "strong": _glyph_strong,
    "contrastive": _glyph_contrastive,
    "shifted": _shifted,
    "original": _glyph_weak,
    "perturbed": _glyph_perturbed,
}
