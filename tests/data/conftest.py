"""A folder with every kind of image that people have, and three files that are none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(height: int = 90, width: int = 120) -> Image.Image:
    """Red above, blue below: a turned or wrongly coloured one is easily told."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = 255
    pixels[height // 2 :, :, 2] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def mixed_folder(tmp_path: Path) -> Path:
    """30 images of all modes, formats and sizes, 3 files that are none, and some files to be left out."""
    root = tmp_path / "photos"
    for folder in ("a/deep", "b", "bad", ".hidden"):
        (root / folder).mkdir(parents=True)
    red_blue = picture()
    for number in range(12):
        Image.fromarray(noise(60 + number, 70, seed=number)).save(root / "a" / f"{number:02d}.png")
    for number in range(5):
        Image.fromarray(noise(64, 64 + number, 1, seed=number)).save(root / "a" / "deep" / f"grey{number}.PNG")
    red_blue.convert("RGBA").save(root / "b" / "rgba.png")
    red_blue.convert("P").save(root / "b" / "palette.png")
    Image.fromarray(noise(64, 64, 1).astype(np.uint16) * 256).save(root / "b" / "deep16.png")
    red_blue.save(root / "b" / "photo.jpeg", quality=95)
    red_blue.convert("CMYK").save(root / "b" / "cmyk.jpg", quality=95)
    red_blue.save(root / "b" / "x.webp", lossless=True)
    red_blue.save(root / "b" / "x.bmp")
    red_blue.save(root / "b" / "x.tif")
    red_blue.save(root / "b" / "x.tiff", compression="tiff_lzw")
    red_blue.save(root / "b" / "moves.gif", save_all=True, append_images=[picture().rotate(180)])
    red_blue.convert("1").save(root / "b" / "black.png")
    red_blue.convert("LA").save(root / "b" / "la.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be shown turned by 90 degrees to the right
    red_blue.transpose(Image.Transpose.ROTATE_90).save(root / "b" / "turned.jpg", exif=exif, quality=95)

    whole = (root / "a" / "00.png").read_bytes()
    (root / "bad" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "bad" / "empty.jpg").write_bytes(b"")
    (root / "bad" / "text.jpg").write_text("I am not an image")
    (root / "notes.txt").write_text("left out")
    red_blue.save(root / ".hidden" / "x.png")
    red_blue.save(root / ".hidden.png")
    return root


@pytest.fixture
def snapshot() -> Callable[[Path], list[tuple[str, int, int]]]:
    """A function that lists a folder with sizes and times of change, to see that nothing was written."""

    def walk(root: Path) -> Iterator[tuple[str, int, int]]:
        for folder, _, files in os.walk(root):
            for path in [Path(folder), *(Path(folder) / file for file in files)]:
                facts = path.stat()
                yield str(path), facts.st_size, facts.st_mtime_ns

    return lambda root: sorted(walk(root))
