"""The named views: what each promises, and that they do not depend on how a batch is shared out."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.types import Family
from coterie.views import RECIPES, Draw, ViewSettings, make_views
from coterie.views.recipes import View, settings_read
from coterie.views.settings import AMOUNTS, MOVES, practical_views

SHAPES = {"photo": (3, 32, 32), "glyph": (1, 28, 28), "vector": (20,)}
SETTINGS = ViewSettings()


def raw_batch(family: str, b: int, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    shape, generator = shape or SHAPES[family], torch.Generator().manual_seed(9)
    if family == "vector":
        return torch.randn(b, *shape, generator=generator)
    return torch.randint(0, 256, (b, *shape), generator=generator, dtype=torch.uint8)


def views(raw, names, family, seed=0, rows=None, n=None, changed=SETTINGS):
    channels = raw.shape[1]
    draw = Draw(torch.Generator().manual_seed(seed), n or len(raw), rows)
    mean, std = torch.linspace(0.3, 0.5, channels), torch.linspace(0.2, 0.3, channels)
    return make_views(raw, names, draw, changed, family, mean, std)


@pytest.mark.parametrize("family", SHAPES)
def test_clean_is_only_normalised(family):
    raw = raw_batch(family, 5)
    (clean,) = views(raw, ["clean"], family)
    mean, std = torch.linspace(0.3, 0.5, raw.shape[1]), torch.linspace(0.2, 0.3, raw.shape[1])
    if family == "vector":
        want = (raw - mean) / std
    else:
        want = (raw.float() / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(clean, want)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 20, 13), (3, 13, 20)])
@pytest.mark.parametrize("family", ["photo", "glyph"])
def test_views_are_finite_float32_of_the_same_size_and_in_order(family, shape):
    raw = raw_batch(family, 30, shape)
    before = raw.clone()
    made = views(raw, ["contrastive", "clean", "contrastive", "weak", "strong"], family)
    assert [tuple(view.shape) for view in made] == [tuple(raw.shape)] * 5
    assert all(view.dtype == torch.float32 and bool(view.isfinite().all()) for view in made)
    assert torch.equal(made[1], views(raw, ["clean"], family)[0])
    assert not torch.equal(made[0], made[2])
    assert torch.equal(raw, before)


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("name", RECIPES)
def test_views_do_not_depend_on_how_the_batch_is_shared(family, name):
    b = 24
    raw = raw_batch(family, b)
    (whole,) = views(raw, [name], family)
    for rows in (torch.arange(b // 2), torch.arange(b // 2, b)):
        (part,) = views(raw[rows], [name], family, rows=rows, n=b)
        torch.testing.assert_close(part, whole[rows], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("family", SHAPES)
def test_views_follow_the_seed(family):
    raw = raw_batch(family, 12)
    names = ["weak", "strong", "contrastive"]
    first, again, other = (views(raw, names, family, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@given(st.sampled_from(["photo", "glyph"]), st.sampled_from(RECIPES), st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_image_views_stay_within_black_and_white(family, name, seed):
    raw = raw_batch("photo", 8)
    (view,) = views(raw, [name], family, seed)
    mean, std = torch.linspace(0.3, 0.5, 3)[:, None, None], torch.linspace(0.2, 0.3, 3)[:, None, None]
    pixels = view * std + mean
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5


def test_without_any_distortion_all_photo_views_are_the_clean_one():
    still = replace(
        SETTINGS, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter_chance=0.0, greyscale=0.0, blur=0.0,
        strong_ops=0, cutout=1, shift=0.0, turn=0.0, enlarge=1.0, perturbed_crop=(1.0, 1.0),
        perturbed_jitter=(0.0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    clean, *others = views(raw_batch("photo", 6), list(RECIPES), "photo", changed=still)
    for view in others:
        torch.testing.assert_close(view, clean, rtol=0.0, atol=1e-4)


def test_without_any_distortion_all_glyph_views_are_the_clean_one():
    still = replace(
        SETTINGS, glyph_shift=0.0, glyph_rotate=0.0, glyph_shear=0.0, glyph_scale=(1.0, 1.0), jitter_chance=0.0,
        glyph_blur=0.0, strong_ops=0, cutout=1, shift=0.0, turn=0.0, glyph_jitter=(0.0, 0.0),
    )  # fmt: skip
    clean, *others = views(raw_batch("glyph", 6), list(RECIPES), "glyph", changed=still)
    for view in others:
        torch.testing.assert_close(view, clean, rtol=0.0, atol=1e-4)


def test_vector_views_move_further_from_weak_to_contrastive_to_strong():
    clean, weak, contrastive, strong = views(
        raw_batch("vector", 200), ["clean", "weak", "contrastive", "strong"], "vector"
    )
    moved = [float((view - clean).norm()) for view in (weak, contrastive, strong)]
    assert 0 < moved[0] < moved[1] < moved[2]


def test_greyscale_of_all_makes_the_channels_equal():
    raw = raw_batch("photo", 6)
    changed = replace(SETTINGS, greyscale=1.0)
    draw = Draw(torch.Generator().manual_seed(0), 6)
    (view,) = make_views(raw, ["contrastive"], draw, changed, "photo", torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(view[:, 0], view[:, 1])
    torch.testing.assert_close(view[:, 0], view[:, 2])


def test_an_unknown_view_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="no view 'strnog'; known views are clean, weak, strong, contrastive"):
        views(raw_batch("photo", 2), ["clean", "strnog"], "photo")


def test_shifted_is_the_same_for_all_images_and_nothing_for_vectors():
    images = raw_batch("photo", 6)
    assert torch.equal(views(images, ["shifted"], "photo")[0], views(images, ["shifted"], "glyph")[0])
    vectors = raw_batch("vector", 6)
    assert torch.equal(*views(vectors, ["shifted", "clean"], "vector"))


def test_shifted_by_nothing_is_clean():
    still = replace(SETTINGS, shift=0.0, turn=0.0)
    assert torch.equal(*views(raw_batch("photo", 4), ["shifted", "clean"], "photo", changed=still))


def test_shifted_moves_by_at_most_a_tenth_of_the_side_and_repeats_the_border():
    ramp = torch.arange(0, 200, 10, dtype=torch.uint8).expand(50, 1, 20, 20)  # brighter to the right
    (view,) = make_views(
        ramp, ["shifted"], Draw(torch.Generator().manual_seed(0), 50), replace(SETTINGS, turn=0.0), "photo",
        torch.zeros(1), torch.ones(1),
    )  # fmt: skip
    right = (ramp[:, 0, 10, 10] / 255 - view[:, 0, 10, 10]) * 255 / 10  # pixels
    assert -2 <= float(right.min()) < -1.5
    assert 1.5 < float(right.max()) <= 2
    furthest = view[right.argmax(), 0, 10]
    assert float(furthest[0]) == 0.0
    assert float(view[right.argmin(), 0, 10, -1]) == pytest.approx(190 / 255)


@pytest.mark.parametrize(
    ("family", "recipes", "given", "idle"),
    [
        ("photo", ["contrastive"], {"blur": 0.0}, {"blur_sigma": "blur=0.0"}),
        ("photo", ["contrastive"], {"jitter_chance": 0.0}, {"jitter": "jitter_chance=0.0"}),
        ("glyph", ["contrastive"], {"jitter_chance": 0.0}, {"glyph_jitter": "jitter_chance=0.0"}),
        ("glyph", ["contrastive", "perturbed"], {"jitter_chance": 0.0}, {}),  # the perturbed view always has its jitter
        ("glyph", ["perturbed", "contrastive"], {"jitter_chance": 0.0}, {}),
        ("glyph", ["contrastive"], {"glyph_blur": 0.0}, {"glyph_blur_sigma": "glyph_blur=0.0"}),
        ("glyph", ["weak"], {"glyph_weak": 0.0}, dict.fromkeys(MOVES, "glyph_weak=0.0")),
        (
            "glyph",
            ["weak"],
            {"glyph_shift": 0.0, "glyph_rotate": 0.0, "glyph_scale": (1.0, 1.0)},
            {"glyph_weak": "glyph_shift=0.0 and glyph_rotate=0.0 and glyph_scale=[1.0, 1.0]"},
        ),
        (
            "vector",
            ["strong"],
            dict.fromkeys(AMOUNTS, 0.0),
            {"vector_strong": "vector_dropout=0.0 and vector_noise=0.0 and vector_mix=0.0"},
        ),
        ("vector", ["strong"], {"vector_strong": 0.0}, dict.fromkeys(AMOUNTS, "vector_strong=0.0")),
        ("vector", ["weak", "strong"], {"vector_strong": 0.0}, {}),
    ],
)
def test_settings_that_another_brings_to_nothing_change_no_view(
    family: Family, recipes: list[str], given: dict[str, Any], idle: dict[str, str]
) -> None:
    changed, raw = replace(SETTINGS, **given), raw_batch(family, 64, SHAPES["photo"] if family == "photo" else None)
    read = settings_read(raw, [View(recipe) for recipe in recipes], changed, family)
    assert {name: why for name, why in read.items() if why} == idle
    before = views(raw, recipes, family, changed=changed)
    for name in OTHERS.keys() & read.keys():
        after = views(raw, recipes, family, changed=replace(changed, **{name: OTHERS[name]}))
        assert all(map(partial(torch.allclose, atol=1e-4), before, after)) == (name in idle), name


OTHERS = {
    "blur_sigma": (0.5, 3.0),
    "jitter": (0.9, 0.9, 0.9, 0.3),
    "glyph_jitter": (0.9, 0.9),
    "glyph_blur_sigma": (0.5, 3.0),
    "glyph_shift": 0.3,
    "glyph_rotate": 40.0,
    "glyph_scale": (0.5, 2.0),
    "glyph_weak": 0.9,
    "vector_strong": 2.0,
    "vector_dropout": 0.3,
    "vector_noise": 0.3,
    "vector_mix": 0.3,
}


CROPPED = {"weak", "strong", "contrastive"}
MOVED = {"weak", "strong", "contrastive", "original", "perturbed"}
ALL = {*RECIPES}
# By family: another value of a setting, and the views that it changes, as `ViewSettings` says.
REACH: dict[Family, dict[str, tuple[Any, set[str]]]] = {
    "photo": {
        "row_norm": ("l2", ALL),
        "crop_scale": ((0.9, 1.0), CROPPED),
        "crop_ratio": ((0.5, 0.6), {*CROPPED, "perturbed"}),
        "flip": (1.0, {*CROPPED, "perturbed"}),
        "jitter": ((0.9, 0.9, 0.9, 0.3), {"contrastive"}),
        "jitter_chance": (0.0, {"contrastive"}),
        "greyscale": (1.0, {"contrastive", "perturbed"}),
        "blur": (1.0, {"contrastive"}),
        "blur_sigma": ((3.0, 4.0), {"contrastive"}),
        "shift": (0.4, {"shifted"}),
        "turn": (90.0, {"shifted"}),
        "enlarge": (2.0, {"original"}),
        "perturbed_crop": ((0.9, 1.0), {"perturbed"}),
        "perturbed_jitter": ((0.9, 0.9, 0.9, 0.1), {"perturbed"}),
        "strong_ops": (0, {"strong"}),
        "cutout": (1, {"strong"}),
    },
    "glyph": {
        "row_norm": ("l2", ALL),
        "glyph_shift": (0.4, MOVED),
        "glyph_rotate": (90.0, MOVED),
        "glyph_shear": (40.0, {"strong", "contrastive", "perturbed"}),
        "glyph_scale": ((0.5, 2.0), MOVED),
        "glyph_weak": (0.9, {"weak", "original"}),
        "glyph_jitter": ((0.9, 0.9), {"contrastive", "perturbed"}),
        "jitter_chance": (0.0, {"contrastive"}),
        "glyph_blur": (1.0, {"contrastive"}),
        "glyph_blur_sigma": ((3.0, 4.0), {"contrastive"}),
        "shift": (0.4, {"shifted"}),
        "turn": (90.0, {"shifted"}),
        "strong_ops": (0, {"strong"}),
        "cutout": (1, {"strong"}),
    },
    "vector": {
        "row_norm": ("l2", ALL),
        "vector_dropout": (0.3, MOVED),
        "vector_noise": (0.3, MOVED),
        "vector_mix": (0.3, MOVED),
        "vector_contrastive": (1.5, {"contrastive", "perturbed"}),
        "vector_strong": (1.5, {"strong"}),
    },
}


@pytest.mark.parametrize("family", REACH)
def test_a_setting_changes_the_views_that_have_it_and_no_other(family: Family) -> None:
    raw = raw_batch(family, 8, {"photo": (3, 8, 8), "glyph": (1, 8, 8), "vector": (9,)}[family])
    usual = {name: views(raw, [name], family)[0] for name in RECIPES}

    def reached(values: dict[str, Any]) -> set[str]:
        changed = replace(SETTINGS, **values)
        return {name for name in RECIPES if not torch.equal(usual[name], *views(raw, [name], family, changed=changed))}

    for setting, (value, reach) in REACH[family].items():
        assert reached({setting: value}) == reach, setting
    others = {setting: value for of_family in REACH.values() for setting, (value, _) in of_family.items()}
    assert others.keys() == {field.name for field in fields(ViewSettings)}
    assert reached({setting: value for setting, value in others.items() if setting not in REACH[family]}) == set()


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(
    ("name", "still"),
    [("shifted", {"turn": 0.0}), ("weak", {"glyph_weak": 1.0, "glyph_rotate": 0.0, "glyph_scale": (1.0, 1.0)})],
)
def test_a_shift_is_a_share_of_the_side_along_which_it_goes(name: str, still: dict[str, Any], down: bool) -> None:
    ramp = torch.arange(0, 200, 10, dtype=torch.uint8).expand(50, 1, 8, 20)  # 20 pixels long, and 8 across
    draw, changed = Draw(torch.Generator().manual_seed(0), 50), replace(SETTINGS, **still)
    (view,) = make_views(ramp.mT if down else ramp, [name], draw, changed, "glyph", torch.zeros(1), torch.ones(1))
    view = view.mT if down else view
    along = (ramp[:, 0, 4, 10] / 255 - view[:, 0, 4, 10]) * 255 / 10  # pixels
    assert -2 <= float(along.min()) < -1.5
    assert 1.5 < float(along.max()) <= 2.001


def test_no_operation_on_glyphs_turns_strokes_into_ground() -> None:
    """Solarising would: a white glyph became black."""
    still = replace(SETTINGS, glyph_shift=0.0, glyph_rotate=0.0, glyph_shear=0.0, glyph_scale=(1.0, 1.0), cutout=1)
    white = torch.full((200, 1, 8, 8), 255, dtype=torch.uint8)
    draw = Draw(torch.Generator().manual_seed(0), 200)
    (view,) = make_views(white, ["strong"], draw, replace(still, strong_ops=1), "glyph", torch.zeros(1), torch.ones(1))
    assert float(view.flatten(1).median(1).values.min()) >= 0.04  # the darkest factor of brightness is 0.05


def test_what_the_user_sets_comes_before_what_a_view_has_of_its_own() -> None:
    raw, draw = raw_batch("photo", 4), Draw(torch.Generator().manual_seed(0), 4)
    flipping = View("weak", {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip": 1.0})
    plain = replace(SETTINGS, flip=0.0), "photo", torch.zeros(3), torch.ones(3)
    own, asked = make_views(raw, [flipping], draw, *plain), make_views(raw, [flipping], draw, *plain, {"flip"})
    torch.testing.assert_close(*own, raw.flip(3) / 255, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(*asked, raw / 255, rtol=0.0, atol=1e-5)


def test_the_practical_presets_end_at_64() -> None:
    assert [practical_views(side)["blur"] for side in (64, 65)] == [0.0, 0.5]
    assert practical_views(0, 63)["vector_dropout"] == 0.0
    assert practical_views(0, 64) == {}
