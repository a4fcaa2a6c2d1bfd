"""Which files of a folder are pictures, by the ends of their names, and what to do with the others."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from coterie.common.extras import imported

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats are found by content, among these only: Pillow has others that start programs or need a service (EPS, WMF).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF", "ICO", "PSD", "QOI")
_PLAIN = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf", ".tga", ".qoi"),
)
HEIF = (".heic", ".heif", ".hif")
AVIF = (".avif",)
JUNK = frozenset(("thumbs.db", "desktop.ini", "icon\r"))
JUNK_FOLDERS = frozenset(("__MACOSX", "$RECYCLE.BIN", "System Volume Information"))
# Thumbnails, recycle bins and snapshots on network storage of Synology and QNAP: every picture a second time.
JUNK_FOLDERS |= {"@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"}
_ADVICE = {
    "save them as PNG": (
        ".ico",
        ".icns",
        ".cur",
        ".psd",
        ".xcf",
        ".svg",
        ".svgz",
        ".eps",
        ".ai",
        ".pcx",
        ".wmf",
        ".emf",
    ),
    "export them as JPEG or TIFF": (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    "take pictures out of them first": (
        ".mov",
        ".mp4",
        ".m4v",
        ".avi",
        ".mkv",
        ".webm",
        ".wmv",
        ".mpg",
        ".mpeg",
        ".3gp",
    ),
    "save their pages as PNG": (".pdf", ".djvu"),
    "unpack them": (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"),
    "turn them into TIFF or .npy": (".dcm", ".nii", ".fits", ".fit", ".h5", ".hdf5", ".mat", ".exr", ".hdr", ".jxl"),
    "save their numbers as .npy": (".pt", ".pth", ".safetensors", ".pkl", ".pickle", ".joblib", ".zarr"),
    "make .parquet files of them": (".feather", ".arrow", ".orc"),
    "a source by itself": (".npy", ".npz", ".parquet"),
}
LISTED = 6  # types that are named in a note


@cache
def extensions() -> frozenset[str]:
    """The ends of names that are read here, in lower case: those of HEIC and AVIF only where something reads them."""
    from PIL import features

    heif = HEIF if importlib.util.find_spec("pillow_heif") else ()
    avif = AVIF if "avif" in features.modules and features.check("avif") else ()
    return frozenset((*_PLAIN, *heif, *avif))


def is_picture(name: str) -> bool:
    """Say whether a file of this name is taken for a picture, whether or not it can be read here."""
    end = os.path.splitext(name)[1].lower()
    return end in _PLAIN or end in HEIF or end in AVIF


def open_image(file: Any) -> Image:
    """Open a picture of one of `FORMATS` from a path or a binary file, whatever its name ends in."""
    from PIL import Image

    return Image.open(file, formats=_formats(tga=str(file).lower().endswith(".tga")))


@cache
def _formats(*, tga: bool) -> tuple[str, ...]:
    from PIL import Image

    if importlib.util.find_spec("pillow_heif"):
        imported("pillow_heif", "HEIC needs its extra: pip install 'coterie[heif]'.").register_heif_opener()
    Image.init()
    # TGA has no mark by which to tell it, so it may be tried for its own files only.
    return tuple(name for name in (*FORMATS, *(("TGA",) if tga else ())) if name in Image.OPEN)


def left_out(others: Counter[str]) -> str:
    """Say how many files were left out and of what types: "8 .heic (...), 4 .mov (...)"; "" for none."""
    ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{count} {end or 'without an extension'}{_advice(end)}" for end, count in ranked[:LISTED]]
    if len(ranked) > LISTED:
        words.append(f"{sum(count for _, count in ranked[LISTED:])} of {len(ranked) - LISTED} other types")
    return ", ".join(words)


def _advice(end: str) -> str:
    if end in HEIF:
        return " (pip install 'coterie[heif]' reads them)"
    if end in AVIF:
        return " (pip install -U pillow reads them)"
    return next((f" ({advice})" for advice, ends in _ADVICE.items() if end in ends), "")
