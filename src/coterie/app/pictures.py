"""The pictures of a run's items, by row. Files are only ever opened for reading, and only those that the run names."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.data.decode import TURNS, quiet_pillow, reason
from coterie.data.extensions import open_image
from coterie.data.files import escaped, path_of
from coterie.data.folders import list_images
from coterie.data.shrink import Unreadable, shrunk, turn
from coterie.types import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from coterie.review.base import Base

THUMB, LARGE = 160, 2048  # pixels of the longer side
TABLE_CACHE = 64 << 20  # bytes of row groups of a table that are kept

Opener = Callable[[int], "Image"]


class Pictures:
    """Opens the picture of a row, or says in a few words why it cannot be. `broken` counts those that could not."""

    def __init__(self, open_row: Opener | None, why: str = "", *, pixels: bool = False) -> None:
        self._open, self.why, self.pixels = open_row, why, pixels  # `pixels`: so small that pixels are shown as such
        self.broken: dict[int, str] = {}

    @property
    def there(self) -> bool:
        return self._open is not None

    def encoded(self, row: int, side: int) -> bytes:
        """The picture of a row as WebP, upright, at most `side` pixels. Raises Unreadable with the reason."""
        from PIL import Image

        if self._open is None:
            raise Unreadable(self.why)
        try:
            with quiet_pillow(), self._open(row) as image:
                small = _upright(image, side)
                small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
                return _webp(small)
        except Exception as error:  # broken files make Pillow raise almost anything
            self.broken[row] = reason(error)
            raise Unreadable(self.broken[row]) from error


def _upright(image: Image, side: int) -> Image:
    from coterie.data.decode import _orientation

    orientation = _orientation(image)
    image.draft("RGB", (side, side))
    with turn(image):
        image.load()
        factor = max(1, int(min(image.width, image.height) / side / 2))
        image = shrunk(image, "RGB", factor, _range_rule(image))
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _range_rule(image: Image) -> Any:
    """Pictures of more than 8 bits are shown from their darkest to their brightest value."""
    import numpy as np

    from coterie.data.shrink import is_wide

    if not is_wide(image.mode):
        from coterie.data.decode import BYTES

        return BYTES
    values = np.asarray(image)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))

    def rule(part: Any) -> Any:
        return ((part.astype(np.float64) - low) / ((high - low) or 1) * 255).clip(0, 255).astype(np.uint8)

    return rule


def _webp(image: Image) -> bytes:
    sink = io.BytesIO()
    if max(image.size) <= 64:
        image.save(sink, "WEBP", lossless=True)
    else:
        image.save(sink, "WEBP", quality=80, method=2)
    return sink.getvalue()


def open_pictures(base: Base, source: str | None) -> Pictures:
    """The pictures of a run. Raises InputError where they are not where they were."""
    entry: Mapping[str, Any] = base.folder.run.get("source") or {}
    if base.folder.kind != "images":
        return Pictures(None, "the items are no pictures")
    spec = entry.get("spec") or {}
    pixels = 0 < max(spec.get("height") or 0, spec.get("width") or 0) <= 32
    given = source or entry.get("path") or entry.get("origin") or ""
    path = path_of(str(given)) if given else Path()
    if path.is_dir():
        return Pictures(_folder(base, path))
    if path.suffix.lower() == ".parquet" and path.is_file():
        return Pictures(_table(base, path))
    if source is not None and not os.path.lexists(path):
        raise InputError(f"There are no pictures at {source}: say with --source where they are.")
    if given and ("/" in str(given) or path.suffix) and not path.is_file():
        raise InputError(f"The photos are not where they were ({escaped(str(given))}): say where with --source.")
    return Pictures(_items(base, str(given)), pixels=pixels)


def _folder(base: Base, root: Path) -> Opener:
    listing = list_images(root)
    there = {escaped(path): path for path, _, _ in listing.files}
    found = [there.get(name) for name in base.ids]
    if not any(found):
        raise InputError(f"None of the run's pictures is in {root}: say with --source where they are.")

    def open_row(row: int) -> Image:
        path = found[row]
        if path is None:
            raise Unreadable("it is not there any more")
        if path in listing.bad:
            raise Unreadable(listing.bad[path])
        return open_image(root / path)

    return open_row


def _table(base: Base, path: Path) -> Opener:
    from coterie.data.parquet import open_parquet
    from coterie.data.tables import Cells, row_ids

    file = open_parquet(path)
    column = "image" if "image" in file.schema_arrow.names else _picture_column(file, path)
    row_of = {name: row for row, name in enumerate(row_ids(file, path)[0])}
    cells = Cells(path, column, TABLE_CACHE)

    def open_row(row: int) -> Image:
        at = row_of.get(base.ids[row])
        content = cells(at) if at is not None else None
        if not content:
            raise Unreadable("it is not in the table")
        return open_image(io.BytesIO(content))

    return open_row


def _picture_column(file: Any, path: Path) -> str:
    from coterie.data.tables import _bytes_of, _holds_pictures

    for field in file.schema_arrow:
        if _bytes_of(field.type) is not None and _holds_pictures(file, field, path):
            return str(field.name)
    raise InputError(f"{path} has no column of pictures: say with --source where they are.")


def _items(base: Base, given: str) -> Opener:
    """Pictures that are no files: arrays and named sets, as the run saw them."""
    import torch
    from PIL import Image

    from coterie.data.source import open_source

    try:
        opened = open_source(given)
    except InputError as error:
        raise InputError(f"The pictures are not where they were ({given}): say where with --source.") from error
    row_of = {name: row for row, name in enumerate(opened.ids)}

    def open_row(row: int) -> Image.Image:
        at = row_of.get(base.ids[row])
        if at is None:
            raise Unreadable("it is not there any more")
        pixels = opened.items.take(torch.tensor([at]))[0].numpy()
        return Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[len(pixels) // 2])

    return open_row
