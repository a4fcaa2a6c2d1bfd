"""One picture in any form that Pillow reads -> 8-bit pixels of a given size and number of channels."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from coterie.types import ItemSpec

ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap width and height


class Unreadable(Exception):
    """A picture that cannot be had; the text is the reason in a few words."""


class _Quiet:
    """How many threads are inside `quiet_pillow`: the warning filters are the whole process', not a thread's."""

    lock = threading.Lock()
    depth = 0
    saved: Any = None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings on odd metadata and on images above 89 megapixels (it refuses those above 179)."""
    with _Quiet.lock:
        if _Quiet.depth == 0:
            _Quiet.saved = warnings.catch_warnings()
            _Quiet.saved.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _Quiet.depth += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.depth -= 1
            if _Quiet.depth == 0:
                _Quiet.saved.__exit__(None, None, None)


def is_grey(mode: str) -> bool:
    """Say whether a Pillow mode has no colour (palettes count as colour)."""
    return mode in ("1", "L", "LA", "La") or mode.startswith(("I", "F"))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) after EXIF rotation, from the header alone."""
    return image.size if _orientation(image) < 5 else (image.height, image.width)


def decode(load: Callable[[int], Image.Image], row: int, spec: ItemSpec) -> NDArray[np.uint8] | str:
    """Return picture `row` as uint8 (c, h, w), or in a few words why it cannot be read."""
    try:
        with load(row) as image:
            return fit(image, spec)
    # Broken files make Pillow raise almost anything: OSError, SyntaxError, struct.error, ValueError, ...
    except Exception as error:
        return reason(error)


def reason(error: Exception) -> str:
    """Say in a few words why a picture cannot be read."""
    text = str(error)
    if isinstance(error, Unreadable):
        return text
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "more than 179 megapixels"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"cannot be decoded: {text or type(error).__name__}"[:120]


def fit(image: Image.Image, spec: ItemSpec) -> NDArray[np.uint8]:
    """Return the picture upright, on white, scaled to cover the form and centre-cropped: uint8 (c, h, w)."""
    target = (spec.width, spec.height)
    asked = target if _orientation(image) < 5 else target[::-1]
    # JPEG decodes at 1/2, 1/4 or 1/8 of its size at a fraction of the cost; twice the target keeps it sharp.
    image.draft(None, (2 * asked[0], 2 * asked[1]))
    image.load()
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    image = _as_mode(_eight_bit(image), "L" if spec.channels == 1 else "RGB")
    if image.size != target:
        box = _centre(image.size, target)
        image = image.resize(target, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    pixels = np.asarray(image)
    return pixels[None] if spec.channels == 1 else pixels.transpose(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation that is still to be applied, 1 to 8."""
    # Pillow reports and loads TIFF upright by itself, and decodes a whole PNG in search of EXIF behind the pixels.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block must not cost the picture
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the picture in mode L or RGB, what is transparent in white."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_from_wide(np.asarray(image), image.mode))
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return _as_mode(image, "L" if image.mode in ("1", "L") else "RGB")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # convert copies even to the same mode


def _from_wide(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and float greys to 8 bits: by the type's range, not the picture's, so that they compare."""
    if mode.startswith("I;16"):
        return (values >> 8).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64))
    top = values.max()
    scale = 255 / 65535 if top > 255 else 255.0 if mode == "F" and top <= 1 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def _centre(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred box of `size` that has the target's proportions, as (left, top, right, bottom)."""
    scale = max(target[0] / size[0], target[1] / size[1])
    width, height = min(size[0], target[0] / scale), min(size[1], target[1] / scale)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height
