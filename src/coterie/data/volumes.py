"""Volumes (n, depth, height, width) -> a Source of images whose channels are the slices.

One shift or rotation then moves all slices of a volume alike, and the flattened volume is R-DC's input vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import RowIds
from coterie.data.fingerprint import array_fingerprint
from coterie.data.items import ArrayImages
from coterie.data.picture_form import Options, check_kind
from coterie.data.pixel_values import array_rule
from coterie.types import InputError, ItemSpec, Source


def open_volumes(array: NDArray[Any], options: Options, *, name: str, origin: str) -> Source:
    """Open volumes as they are; InputError for another form, and for options that would change theirs."""
    check_kind(options, "images", name)
    if array.ndim != 4 or array.dtype.kind not in "buif" or len(array) < options.minimum or 0 in array.shape:
        raise InputError(
            f"{name} has shape {array.shape} and dtype {array.dtype}, but volumes are numbers (n, d, h, w)."
        )
    if options.image_size is not None or options.channels is not None:
        raise InputError(f"{name} holds volumes, which keep their form: leave the size and channels of images out.")
    rule = array_rule(array, name, options.like)
    (depth, height, width), (low, high) = array.shape[1:], rule.range
    spec = options.like or ItemSpec("images", channels=depth, height=height, width=width, low=low, high=high)
    if (spec.channels, spec.height, spec.width) != (depth, height, width):
        raise InputError(
            f"{name} holds volumes of {depth} slices of {width}x{height} pixels, but the model was fitted on "
            f"{spec.channels} channels of {spec.width}x{spec.height}."
        )
    items = ArrayImages(np.ascontiguousarray(rule(array)), spec)
    notes = list(rule.notes)
    # Colour has no meaning here, and which distortions keep that of a volume is not known: those of glyphs are mild.
    return Source(name, origin, items, RowIds(len(array)), array_fingerprint(array), notes=notes, family="glyph")
