"""The named views: `clean` (only normalised), `weak`, `strong`, `contrastive`, `shifted`, `original`, `perturbed`.

Photographs follow CDC and its MoCo-v2 stage. Glyphs (digits, letters) are shifted, turned, slanted and scaled instead
of cropped and flipped, since a mirrored or half-cut digit is another digit or none. Vectors lose features, get noise
and are mixed. `shifted` is the same for both kinds of images, and `clean` for vectors. `original` and `perturbed` are
PICA's pair, a hardly moved image and a strongly distorted one. Every distortion keeps the size of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from coterie.types import Family
from coterie.views.blur import blur_size, gaussian_blur
from coterie.views.colour import colour_jitter, greyscale
from coterie.views.cutout import random_cutout
from coterie.views.draw import Draw
from coterie.views.embeddings import distort
from coterie.views.normalise import normalise
from coterie.views.policy import GLYPH_POOL, PHOTO_POOL, random_operations
from coterie.views.settings import ViewSettings, reason_idle
from coterie.views.some_rows import update_rows
from coterie.views.warps import (
    Interpolation,
    affine,
    crop_resize,
    enlarge_and_crop,
    random_resized_crop_boxes,
    turn_and_shift,
)

__all__ = ["RECIPES", "Family", "Recipe", "View", "ViewSettings", "make_views"]

RECIPES = ("clean", "weak", "strong", "contrastive", "shifted", "original", "perturbed")
Recipe = Callable[[Tensor, Draw, ViewSettings], Tensor]


@dataclass(frozen=True)
class View:
    """A view that a method asks for: a recipe of this file by its name, or the method's own for each family.

    An own recipe gets pictures (b, c, h, w) in [0, 1], or normalised vectors (b, d), and returns them distorted.
    `settings` change those of the recipe for this view, as in the method's paper; what the user sets comes before
    them. `of` names the partner (`Pass.partners`) that it shows instead of the item itself.
    """

    recipe: str | Mapping[Family, Recipe]
    settings: Mapping[str, Any] = field(default_factory=dict)
    of: str = ""

    def settings_of(self, common: ViewSettings, given: Collection[str]) -> ViewSettings:
        """The settings of this view, from those of all views and the names of those that the user gave."""
        own = {name: value for name, value in self.settings.items() if name not in given}
        return replace(common, **own) if own else common

    @property
    def cut_out(self) -> bool:
        """Whether a hole is cut into the normalised picture, as CDC's strong view has it."""
        return self.recipe == "strong"

    def of_family(self, family: Family) -> Recipe:
        """The recipe for items of that family. Raises ValueError where there is none."""
        if not isinstance(self.recipe, str):
            known = self.recipe
            if family not in known:
                raise ValueError(f"This view has no recipe for items of the family {family!r}.")
            return known[family]
        if self.recipe not in RECIPES:
            raise ValueError(f"There is no view {self.recipe!r}; known views are {', '.join(RECIPES)}.")
        return VECTOR[self.recipe] if family == "vector" else (PHOTO if family == "photo" else GLYPH)[self.recipe]


def make_views(
    raw: Tensor,
    views: Sequence[str | View],
    draw: Draw,
    settings: ViewSettings,
    family: Family,
    mean: Float[Tensor, " c"],
    std: Float[Tensor, " c"],
    given: Collection[str] = (),
) -> list[Tensor]:
    """Make each view of the batch, in that order; a recipe asked for twice makes two different views.

    raw: uint8 (b, c, h, w) or float (b, d), already on the device where the views are wanted; mean, std: as
    `normalisation` gives them. `given` are the names of settings that the user chose. Views are float32 of raw's shape,
    normalised. Raises ValueError for an unknown recipe.
    """
    mean, std = mean.to(raw.device), std.to(raw.device)
    wanted = [View(view) if isinstance(view, str) else view for view in views]
    recipes = [view.of_family(family) for view in wanted]
    own = [view.settings_of(settings, given) for view in wanted]
    if family == "vector":
        vectors = normalise(raw.float(), mean, std, settings.row_norm)
        return [recipe(vectors, draw, each) for recipe, each in zip(recipes, own, strict=True)]
    images = raw.float().div_(255)
    made = []
    for view, recipe, each in zip(wanted, recipes, own, strict=True):
        shown = normalise(recipe(images, draw, each), mean, std, settings.row_norm)
        made.append(random_cutout(shown, draw, each.cutout) if view.cut_out else shown)
    return made


def settings_read(
    raw: Tensor, views: Sequence[View], settings: ViewSettings, family: Family, given: Collection[str] = ()
) -> dict[str, str]:
    """The settings that these views ask for, seen by making each of them of a few items, as they are, and why not.

    By name: "" where it changes something, else the settings beside which it changes nothing, as "blur=0.0".
    """
    found, known = {"row_norm": ""}, {setting.name for setting in fields(ViewSettings)}
    items = raw.float() if family == "vector" else raw.float().div_(255)
    for view in views:
        read, own = set[str](), view.settings_of(settings, given)
        view.of_family(family)(items, Draw(torch.Generator(), len(items)), _noting(own, read))
        if view.cut_out and family != "vector":
            read.add("cutout")
        for name in read & known:
            if found.get(name, "idle"):  # no view before has a use for it
                found[name] = reason_idle(name, own, read)
    return found


def _noting(settings: ViewSettings, read: set[str]) -> ViewSettings:
    """These settings; each name that they are asked for is put into `read`."""

    class Noting(ViewSettings):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return getattr(settings, name)

    return object.__new__(Noting)


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
    # Flipping commutes with every operation between crop and flip, so the crop does it.
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
    return turn_and_shift(images, draw, settings)


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


def _vector_weak(vectors: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return _vector_view(vectors, draw, settings, 1.0)


def _vector_strong(vectors: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return _vector_view(vectors, draw, settings, settings.vector_strong)


def _vector_contrastive(vectors: Tensor, draw: Draw, settings: ViewSettings) -> Tensor:
    return _vector_view(vectors, draw, settings, settings.vector_contrastive)


def _vector_view(vectors: Tensor, draw: Draw, settings: ViewSettings, times: float) -> Tensor:
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
VECTOR: dict[str, Recipe] = {
    "clean": _clean,
    "weak": _vector_weak,
    "strong": _vector_strong,
    "contrastive": _vector_contrastive,
    "shifted": _clean,  # a vector cannot be shifted
    "original": _vector_weak,
    "perturbed": _vector_contrastive,
}
