"""Which items to show of each group, and their pictures as data URIs."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SUREST, DOUBTFUL = 0, 1
LARGE, SMALL = 160, 96  # pixels of a thumbnail's longer side: sharp at 64 and 38 on a dense screen, fair enlarged


class GalleryRows(NamedTuple):
    """Rows of the result to show, by group, surest before doubtful; each list begins with its extreme."""

    rows: NDArray[np.int64]
    cluster: NDArray[np.int64]
    kind: NDArray[np.int64]  # SUREST or DOUBTFUL


def gallery_rows(labels: NDArray[np.integer], confidence: NDArray[np.floating], per_cluster: int = 12) -> GalleryRows:
    """Pick up to `per_cluster` surest and as many most doubtful items of each group; no item is both.

    A small group gives its surer half, rounded up, to the first list. Equal confidences: the lower row first.
    """
    labels = np.asarray(labels)
    order = np.lexsort((-np.asarray(confidence), labels))
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0]) if len(order) else np.empty(0, dtype=np.int64)
    rows, clusters, kinds = [], [], []
    for members in np.split(order, starts[1:]) if len(order) else []:
        surest = members[: min(per_cluster, (len(members) + 1) // 2)]
        doubtful = members[::-1][: min(per_cluster, len(members) - len(surest))]
        for kind, picked in ((SUREST, surest), (DOUBTFUL, doubtful)):
            rows.append(picked)
            clusters.append(np.full(len(picked), labels[members[0]]))
            kinds.append(np.full(len(picked), kind))
    if not rows:
        rows = clusters = kinds = [np.empty(0)]
    return GalleryRows(*(np.concatenate(part).astype(np.int64) for part in (rows, clusters, kinds)))


def thumbnail(pixels: NDArray[np.uint8], side: int = LARGE) -> str:
    """A uint8 image (h, w, c) as a data URI: up to 64 pixels as it is in a PNG, else a JPEG shrunk to `side`."""
    from PIL import Image

    channels = pixels.shape[2]
    # PIL knows grey, RGB and RGBA; of other channel counts (slices of a volume) the middle one is shown.
    image = Image.fromarray(pixels if channels in (3, 4) else pixels[..., channels // 2])
    buffer = io.BytesIO()
    if max(image.size) <= 64:
        image.save(buffer, "PNG", optimize=True)
        return _data_uri("image/png", buffer)
    image.thumbnail((side, side))
    image.convert("L" if channels not in (3, 4) else "RGB").save(buffer, "JPEG", quality=82)
    return _data_uri("image/jpeg", buffer)


def _data_uri(media_type: str, buffer: io.BytesIO) -> str:
    return f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"
