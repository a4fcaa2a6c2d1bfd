"""How strongly each recipe distorts. Defaults are those of CDC's code, or ours where it has none."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from coterie.common.bounds import (
    RISING,
    AboveZero,
    Degrees,
    Enlarging,
    HueShift,
    Pixels,
    Ratio,
    Share,
    Sigma,
    Slant,
    Strength,
    Times,
)
from coterie.views.normalise import SMALL_DIM, RowNorm


@dataclass(frozen=True)
class ViewSettings:
    """Settings of the recipes; pairs are (lowest, highest) of a uniform draw, chances are probabilities per image."""

    # all views, `clean` too: after the data set's scaling
    row_norm: RowNorm = "none"
    # photographs: crops in all views but `clean`
    crop_scale: Annotated[tuple[AboveZero, AboveZero], RISING] = (0.08, 1.0)  # share of the image's area
    crop_ratio: Annotated[tuple[Ratio, Ratio], RISING] = (3 / 4, 4 / 3)  # width / height, uniform in its logarithm
    flip: Share = 0.5  # chance of a left-right mirror image
    # photographs: the contrastive view, which resizes bicubically
    # brightness, contrast, saturation, hue
    jitter: tuple[Strength, Strength, Strength, HueShift] = (0.4, 0.4, 0.4, 0.1)
    jitter_chance: Share = 0.8  # of the jitter
    greyscale: Share = 0.2  # chance
    blur: Share = 0.5  # chance; the paper goes without for CIFAR, its code does not
    blur_sigma: Annotated[tuple[Sigma, Sigma], RISING] = (0.1, 2.0)  # pixels; the kernel reaches three of the largest
    # the shifted view, of all images
    shift: Share = 0.1  # either way, share of the side
    turn: Degrees = 10.0  # either way, degrees
    # photographs: PICA's pair; the perturbed view has the flip and the greyscale of the others, and always a jitter
    enlarge: Enlarging = 1.25  # the original view is cut from the image made so many times larger: 32 pixels from 40
    perturbed_crop: Annotated[tuple[AboveZero, AboveZero], RISING] = (0.2, 1.0)  # share of the image's area
    # brightness, contrast, saturation, hue
    perturbed_jitter: tuple[Strength, Strength, Strength, HueShift] = (0.4, 0.4, 0.4, 0.4)
    # the strong view
    strong_ops: Times = 4  # operations per image, drawn with replacement
    # longest side of the hole in pixels (32 beyond CIFAR); never more than half of the image's side
    cutout: Pixels = 16
    # digits and letters, whose meaning a flip or a big crop would change
    glyph_shift: Share = 0.1  # either way, share of the side
    glyph_rotate: Degrees = 15.0  # either way, degrees
    glyph_shear: Slant = 10.0  # either way, degrees
    glyph_scale: Annotated[tuple[Ratio, Ratio], RISING] = (0.85, 1.15)  # size, as a factor
    glyph_weak: Share = 0.5  # the weak view's shift, rotation and scale as a share of those above; it has no shear
    glyph_jitter: tuple[Strength, Strength] = (0.4, 0.4)  # brightness, contrast; with jitter_chance, contrastive view
    glyph_blur: Share = 0.2  # chance, contrastive view
    glyph_blur_sigma: Annotated[tuple[Sigma, Sigma], RISING] = (0.1, 1.0)  # pixels
    # embeddings: amounts of the weak view, and by how much the other views multiply them
    vector_dropout: Share = 0.1  # chance of each feature to be dropped
    vector_noise: Strength = 0.1  # standard deviation, where the data's is 1
    vector_mix: Share = 0.1  # largest share of another item
    vector_contrastive: Strength = 2.0  # factor of the contrastive view
    vector_strong: Strength = 3.0  # factor of the strong view


JITTERS, AMOUNTS = ("jitter", "glyph_jitter"), ("vector_dropout", "vector_noise", "vector_mix")
FACTORS, MOVES = ("vector_contrastive", "vector_strong"), ("glyph_shift", "glyph_rotate", "glyph_scale")
BESIDE = {
    "blur_sigma": ("blur",),
    "glyph_blur_sigma": ("glyph_blur",),
    "jitter_chance": JITTERS,
    "glyph_weak": MOVES,
    **dict.fromkeys(JITTERS, ("jitter_chance",)),
    **dict.fromkeys(FACTORS, AMOUNTS),
    **dict.fromkeys(AMOUNTS, FACTORS),
    **dict.fromkeys(MOVES, ("glyph_weak",)),
}
"""Settings that a view multiplies by others, a strength by its chance: where those come to nothing, so do they."""


def reason_idle(name: str, settings: ViewSettings, read: Collection[str]) -> str:
    """The others of `read`, what a view asks for, beside which this one changes nothing; "" where it changes something.

    Of several others all must come to nothing. For example "blur=0.0" for blur_sigma.
    """
    others = [other for other in BESIDE.get(name, ()) if other in read]
    if not others or any(not _nothing(other, getattr(settings, other)) for other in others):
        return ""
    return " and ".join(f"{other}={json.dumps(getattr(settings, other))}" for other in others)


def _nothing(name: str, value: Any) -> bool:
    """Whether a chance, a strength or a range of factors leaves everything as it is."""
    least = 1 if name == "glyph_scale" else 0
    return all(each == least for each in (value if isinstance(value, tuple) else (value,)))


def without_effect(names: Iterable[str], kind: str, family: str) -> list[str]:
    """Those of these settings that no view of such items uses: `kind` images or embeddings, `family` of pictures."""
    if kind == "embeddings":
        return sorted(name for name in names if not name.startswith("vector_") and name != "row_norm")
    others = ("vector_",) if family == "glyph" else ("vector_", "glyph_")
    return sorted(name for name in names if name.startswith(others))


def practical_views(side: int, dim: int = 0) -> dict[str, Any]:
    """The practical preset, by the longer side of the images in pixels or by the number of features of embeddings.

    Crops from a fifth of the image on, as MoCo-v2 has them (CDC's code: 0.08), because short trainings do not learn
    from smaller ones; and no blur up to 64 pixels, as the CDC paper says of its smallest images.
    Fewer than 64 features are measurements of which none can be spared: no dropout, and a third of the noise.
    """
    if dim:
        return {} if dim >= SMALL_DIM else {"vector_dropout": 0.0, "vector_noise": 0.03, "vector_mix": 0.03}
    return {"crop_scale": (0.2, 1.0), "blur": 0.0 if side <= 64 else 0.5}
