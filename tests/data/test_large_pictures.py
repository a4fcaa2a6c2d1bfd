"""How much memory one picture takes: measured in a process of its own."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import forked

MEASURE = """
import resource, sys
import torch
from PIL import Image
from coterie.data import open_source
from coterie.types import ItemSpec
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
source = open_source(sys.argv[1], like=ItemSpec("images", 3, 64, 64), max_skipped=1, workers=4)
print((peak() - before) // 1024, len(source.items), [item.reason for item in source.skipped])
"""
SIDE = 6400


def striped(path: Path, mode: str, **settings: object) -> None:
    image = Image.new(mode, (SIDE, SIDE))
    if mode == "P":
        image.putpalette([200, 10, 10] * 256)
    image.save(path, **settings)


def measure(folder: Path) -> tuple[int, str]:
    done = forked.run(MEASURE, folder)
    assert done.returncode == 0, done.stderr
    mib, rest = done.stdout.decode().split(" ", 1)
    return int(mib), rest.strip()


@pytest.mark.parametrize(
    ("mode", "suffix", "settings", "most"),
    [
        ("P", ".png", {"transparency": 0}, 150),  # 39 MiB of palette indices, 0.6 GiB as RGBA and its copies
        ("L", ".png", {}, 150),
        ("RGB", ".jpg", {}, 100),  # 157 MiB as a whole, a 64th of that by JPEG's own reduction
        ("I;16", ".tif", {"compression": "tiff_adobe_deflate"}, 250),
        ("F", ".tif", {"compression": "tiff_adobe_deflate"}, 400),  # 156 MiB as it is, 1.1 GiB in float64 and copies
    ],
)
def test_a_large_picture_takes_little_more_than_its_own_mode(mode, suffix, settings, most, tmp_path):
    striped(tmp_path / f"0{suffix}", mode, **settings)
    (tmp_path / f"1{suffix}").hardlink_to(tmp_path / f"0{suffix}")  # both are not decoded at the same time
    mib, rest = measure(tmp_path)
    assert rest == "2 []"
    assert mib < most


def png(side: int, bits: int, colour: int) -> bytes:
    """A black PNG of any size in little memory and time: one compressed row, again and again."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    packer, channels = zlib.compressobj(9, wbits=-15), {0: 1, 2: 3, 6: 4}[colour]
    length = 1 + side * channels * bits // 8
    row = packer.compress(bytes(length)) + packer.flush(zlib.Z_FULL_FLUSH)
    adler = (side * length % 65521 << 16 | 1).to_bytes(4, "big")  # of so many zeros
    packed = b"\x78\xda" + row * side + b"\x03\x00" + adler
    header = side.to_bytes(4, "big") * 2 + bytes([bits, colour, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_what_would_take_too_much_is_listed_with_its_size(tmp_path):
    (tmp_path / "colour.png").write_bytes(png(12_500, 8, 2))
    (tmp_path / "bomb.png").write_bytes(png(20_000, 8, 0))
    for number in range(3):
        Image.fromarray(np.full((70, 70, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    mib, rest = measure(tmp_path)
    assert rest.startswith(
        "3 ['more than 179 megapixels', '12500x12500 pixels of mode RGB take 625 MB decoded, more than"
    )
    assert mib < 200
