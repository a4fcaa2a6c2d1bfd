"""One picture in any form that Pillow reads -> 8-bit pixels of a given size and number of channels."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from coterie.data.pixel_values import ValueRule
from coterie.data.shrink import Unreadable, is_wide, shrunk, turn
from coterie.types import ItemSpec

ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap width and height
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BYTES = ValueRule()


@dataclass(frozen=True)
class Framing:
    """Which part of a picture is used, and how it is resized."""

    crop: float = 1.0  # share of the largest centred part that has the form's proportions
    squash: bool = False  # the whole picture, whatever its proportions
    resample: Image.Resampling = Image.Resampling.BILINEAR


WHOLE = Framing()
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def framing_of(spec: ItemSpec) -> Framing:
    """How pictures are cropped and resized to this form: as the encoder expects, where there is one."""
    said = spec.encoding
    return WHOLE if said is None else Framing(said.crop, said.squash, RESAMPLING[said.interpolation])


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
    return mode in ("1", "L", "LA", "La") or is_wide(mode)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) after EXIF rotation, from the header alone."""
    return image.size if orientation_of(image) < 5 else (image.height, image.width)


def decode(
    load: Callable[[int], Image.Image], row: int, spec: ItemSpec, rule: ValueRule = BYTES
) -> NDArray[np.uint8] | str:
    """Return picture `row` as uint8 (c, h, w), or in a few words why it cannot be read."""
    try:
        with load(row) as image:
            return fit(image, spec, rule)
    # Broken files make Pillow raise almost anything: OSError, SyntaxError, struct.error, ValueError, ...
    except Exception as error:
        return reason(error)


def reason(error: Exception) -> str:
    """Say in a few words why a picture cannot be read."""
    text = " ".join(str(error).split())
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


def of_the_system(why: str) -> bool:
    """Whether a `reason` is the system's (a disk that is away, no rights), which may not hold any more."""
    return why in {os.strerror(number).lower() for number in errno.errorcode}


def fit(image: Image.Image, spec: ItemSpec, rule: ValueRule = BYTES) -> NDArray[np.uint8]:
    """Return the picture upright, on white, scaled to cover the form and centre-cropped: uint8 (c, h, w).

    `rule` maps the values of pictures of more than 8 bits. Raises whatever Pillow does, and Unreadable.
    """
    framing = framing_of(spec)
    orientation, mode = orientation_of(image), "L" if spec.channels == 1 else "RGB"
    asked = (spec.width, spec.height) if orientation < 5 else (spec.height, spec.width)
    # JPEG decodes at 1/2, 1/4 or 1/8 of its size at a fraction of the cost; twice the target keeps it sharp.
    whole = asked[0] / framing.crop, asked[1] / framing.crop  # what all of the picture would be scaled to
    image.draft(None, (round(2 * whole[0]), round(2 * whole[1])))
    with turn(image):
        image.load()
        if image.mode != mode or image.has_transparency_data:
            # As Pillow's own `reducing_gap`, before the picture is turned into one of more bytes.
            scale = min(image.width / whole[0], image.height / whole[1])
            image = shrunk(image, mode, max(1, int(scale / 2)), rule)
        if image.size != asked or framing.crop < 1:
            box = None if framing.squash else _centre(image.size, asked, framing.crop)
            image = image.resize(asked, framing.resample, box=box, reducing_gap=2.0)
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    pixels = np.asarray(image)
    return pixels[None] if spec.channels == 1 else pixels.transpose(2, 0, 1)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation that is still to be applied, 1 to 8."""
    # Pillow reports and loads TIFF upright by itself, and decodes a whole PNG in search of EXIF behind the pixels.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block must not cost the picture
        return 1


def _centre(size: tuple[int, int], target: tuple[int, int], share: float = 1) -> tuple[float, float, float, float]:
    """Return a centred box of `size` that has the target's proportions, as (left, top, right, bottom).

    Its sides are this share of those of the largest such box.
    """
    scale = max(target[0] / size[0], target[1] / size[1]) / share
    width, height = min(size[0], target[0] / scale), min(size[1], target[1] / scale)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height
