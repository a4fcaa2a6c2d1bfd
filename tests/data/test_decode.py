from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from coterie.data.decode import fit, upright_size
from coterie.data.pixel_values import ValueRule
from coterie.types import ItemSpec

RGB64 = ItemSpec("images", 3, 64, 64)


def save_turned(image: Image.Image, path, orientation: int) -> None:
    """Save so that a viewer which applies the EXIF orientation shows `image`."""
    stored = {
        1: lambda: image,
        2: lambda: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation]()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientations_give_the_upright_picture(tmp_path, orientation, suffix):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    save_turned(upright, tmp_path / f"x.{suffix}", orientation)
    with Image.open(tmp_path / f"x.{suffix}") as image:
        assert upright_size(image) == (60, 40)
        found = fit(image, ItemSpec("images", 3, 40, 60))
    assert np.array_equal(found, np.asarray(upright).transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", [1, 6])
def test_jpeg_drafts_agree_with_full_decoding(tmp_path, orientation):
    height, width = 600, 900
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 / width, y * 255 / height, 127 + 100 * np.sin(x / 40)], 2).astype(np.uint8)
    upright = Image.fromarray(pixels)
    save_turned(upright, tmp_path / "x.jpg", orientation)
    with Image.open(tmp_path / "x.jpg") as image:
        assert upright_size(image) == (width, height)
        found = fit(image, RGB64).astype(int)
    plain = np.asarray(upright.crop((150, 0, 750, 600)).resize((64, 64), Image.Resampling.BOX)).transpose(2, 0, 1)
    assert np.abs(found - plain.astype(int)).mean() < 3


def test_transparent_parts_are_white():
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:] = (10, 20, 30, 255)
    found = fit(Image.fromarray(pixels), RGB64)
    assert (found[:, :, :32] == 255).all()
    assert (found[:, :, 32:] == np.array([10, 20, 30])[:, None, None]).all()
    half = Image.new("LA", (64, 64), (0, 128))
    assert np.abs(fit(half, ItemSpec("images", 1, 64, 64)).astype(int) - 127).max() <= 1


def test_palette_with_a_transparent_colour_is_composed_on_white(tmp_path):
    image = Image.fromarray(np.repeat(np.arange(2, dtype=np.uint8), 32)[None].repeat(64, 0), mode=None).convert("P")
    image.putpalette([0, 0, 0, 200, 100, 50])
    for transparency in (0, b"\x00\xff"):
        image.save(tmp_path / "x.png", transparency=transparency)
        with Image.open(tmp_path / "x.png") as saved:
            assert saved.mode == "P"
            found = fit(saved, RGB64)
        assert (found[:, :, :32] == 255).all()
        assert (found[:, :, 32:] == np.array([200, 100, 50])[:, None, None]).all()


@pytest.mark.parametrize(
    ("pixels", "rule", "expected"),
    [
        (np.full((8, 8), 0xAB12, np.uint16), (0, 65535), 170),
        (np.full((8, 8), 65535, np.int32), (0, 65535), 255),
        (np.full((8, 8), 200, np.int32), (0, 255), 200),
        (np.full((8, 8), 0.5, np.float32), (0, 1), 128),
        (np.full((8, 8), -3.0, np.float32), (-5, 5), 51),
    ],
)
def test_wide_greys_become_eight_bits_by_the_rule_of_their_source(pixels, rule, expected):
    assert (fit(Image.fromarray(pixels), ItemSpec("images", 1, 8, 8), ValueRule(*rule)) == expected).all()


def test_scaling_covers_the_form_and_keeps_the_centre():
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255
    assert (fit(Image.fromarray(pixels), ItemSpec("images", 3, 50, 50)) == 255).mean() > 0.95
    tall = fit(Image.fromarray(pixels.transpose(1, 0, 2)), ItemSpec("images", 3, 50, 50))
    assert (tall == 255).mean() > 0.95
    small = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    assert fit(Image.fromarray(small), RGB64).shape == (3, 64, 64)


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path):
    Image.new("RGB", (64, 64), (9, 99, 199)).save(tmp_path / "x.png", exif=b"Exif\0\0garbage that is no TIFF header")
    with Image.open(tmp_path / "x.png") as image:
        assert (fit(image, RGB64) == np.array([9, 99, 199])[:, None, None]).all()
