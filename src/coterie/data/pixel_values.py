"""Pixel values of any dtype -> 0 to 255, by one rule for all pictures of a source.

The rule is fixed when a model is fitted, by the values of the whole source, and stands in the model's `ItemSpec`. New
data follow the model's rule: the same number is the same grey in whatever dtype it comes. The other forms in which
pictures are common (uint8, 16 bits, floats from 0 to 1) are understood where nothing else can be meant, and refused
otherwise; new data are never stretched by their own range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import capital
from coterie.data.array_rows import blocks
from coterie.data.ranges import PixelValues, values_of
from coterie.types import InputError, ItemSpec

Range = tuple[float, float]
BYTE, UNIT, SIXTEEN = (0.0, 255.0), (0.0, 1.0), (0.0, 65535.0)
DEPTHS = (10, 12, 14, 16)  # bits of cameras and scanners whose values come in 16-bit numbers
FULL = 16384  # a whole number above the 14 bits: only the full 16 bits have it
DARK = 1 / 16  # floats that end below it fill fewer than 16 of the 256 greys of 0 to 1, so they are in another unit
SLACK = 0.25  # share of the model's range by which new values may lie beyond it
BINARY = "Pixel values of 0 and 1 were taken as black and white."
FEW = 4  # a picture with fewer greys than this shows nothing


@dataclass(frozen=True)
class ValueRule:
    """Maps pixel values linearly: `low` becomes 0, `high` 255, values beyond are clipped. `notes` are for the user."""

    low: float = 0.0
    high: float = 255.0
    notes: tuple[str, ...] = ()

    @property
    def range(self) -> Range:
        """`low` and `high` as `ItemSpec` has them: (0, 0) where pixels are bytes already."""
        return (0.0, 0.0) if (self.low, self.high) == BYTE else (self.low, self.high)

    def __call__(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        if values.dtype == np.uint8 and (self.low, self.high) == BYTE:
            return values.astype(np.uint8, copy=False)
        scaled = (values.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def array_rule(array: NDArray[Any], name: str, like: ItemSpec | None) -> ValueRule:
    """The rule of an array of images; a pass over it, unless the dtype alone says it. InputError for NaN, infinity."""
    plain = array.dtype in (np.uint8, np.bool_)
    if plain and like is None and array.dtype == np.uint8 and _black_and_white(array):
        return ValueRule(*UNIT, notes=(BINARY,))
    if plain and (like is None or (array.dtype == np.uint8 and _of(like) == BYTE)):
        return ValueRule() if array.dtype == np.uint8 else ValueRule(*UNIT)
    return rule_for(array.dtype, values_of(array, name), name, like)


def bytes_as_they_are(dtype: np.dtype[Any], like: ItemSpec) -> bool:
    """Whether the pixels and the model's are both plain bytes, so that no scaling is needed."""
    return dtype == np.uint8 and _of(like) == BYTE


def _black_and_white(array: NDArray[Any]) -> bool:
    """Whether an array has no other values than 0 and 1, and both. Of an ordinary one the first block shows it."""
    high = 0
    for _, rows in blocks(array):
        high = max(high, int(rows.max(initial=0)))
        if high > 1:
            return False
    return high == 1


def rule_for(
    dtype: np.dtype[Any],
    values: PixelValues,
    name: str,
    like: ItemSpec | None = None,
    *,
    ids: Sequence[str] = (),
    beside_bytes: bool = False,
) -> ValueRule:
    """Choose the rule by the dtype and the values of the whole source, or by what the model `like` was fitted on.

    `ids` name the pictures. `beside_bytes`: other pictures of the source have 8 bits, so that only what can be compared
    with them is taken. InputError for what cannot be understood.
    """
    if like is not None:
        rule = _as_fitted(dtype, values, name, like)
        said = () if rule.range == (0.0, 0.0) else (f"Pixel values from {_span(rule)} became 0 to 255, for the model.",)
        return replace(rule, notes=(*said, *_losses(values, rule, ids)))
    rule = _beside_bytes(values, name, ids) if beside_bytes else _fitted(dtype, values, name)
    return replace(rule, notes=(*rule.notes, *_losses(values, rule, ids)))


def _fitted(dtype: np.dtype[Any], values: PixelValues, name: str) -> ValueRule:
    """The rule for a source that a model is fitted on."""
    low, high = values.typical()
    if dtype == np.bool_:
        return ValueRule(*UNIT)
    if dtype.kind in "iu" and values.low == 0 and values.high == 1:
        return ValueRule(*UNIT, notes=(BINARY,))
    if dtype.kind in "iu" and values.low >= 0 and high <= 255:
        return ValueRule()
    if dtype.kind == "f" and low >= -1e-3 and high <= 1.001 and (high >= DARK or high == 0):
        return ValueRule(*UNIT)
    if values.whole and values.low >= 0 and high > 255 and high <= SIXTEEN[1]:
        top = values.quantiles()[1]
        bits = next(bits for bits in DEPTHS if top < 2**bits)
        most = 2.0**bits - 1
        return ValueRule(0, most, (f"Pixel values from 0 to {most:g} ({bits} bits) became 0 to 255.",))
    if dtype.kind == "f" and low >= 0 and 128 <= high <= 255:
        return ValueRule(*BYTE, notes=("Pixel values were taken as 0 to 255.",))
    if dtype.kind == "f" and -1 <= low < 0 and high <= 1 and max(-low, high) >= 0.5:
        low, high = -1.0, 1.0
    if low == high:
        raise InputError(f"Every pixel of {name} has the value {low:g}, so there is nothing to cluster.")
    return ValueRule(low, high, (f"Pixel values from {low:g} to {high:g} were stretched to 0 to 255.",))


def _beside_bytes(values: PixelValues, name: str, ids: Sequence[str]) -> ValueRule:
    """The rule for the other pictures of a source that also has 8-bit ones."""
    low, high = values.low, values.high
    if values.whole and low >= 0 and FULL <= high <= SIXTEEN[1]:
        return ValueRule(*SIXTEEN, notes=("Pixel values of 16 bits became 0 to 255, beside pictures of 8 bits.",))
    if low >= 0 and high <= 1 and (high >= DARK or high == 0) and not (values.whole and high == 1):
        return ValueRule(*UNIT, notes=("Pixel values from 0 to 1 became 0 to 255, beside pictures of 8 bits.",))
    if low >= 0 and 1 < high <= 255:
        return ValueRule()
    raise InputError(
        f"{capital(name)} mixes pictures of 8 bits with others whose pixel values run from {low:g} to {high:g} "
        f"({_extremes(values, ids)}), so that their brightness cannot be compared; bring all to one kind, such as 8 "
        "bits, or give them apart."
    )


def _extremes(values: PixelValues, ids: Sequence[str]) -> str:
    """The picture with the least bright maximum and the one with the brightest: where two kinds are, one of each."""
    rows = sorted(values.by_picture, key=lambda row: (values.by_picture[row][1], row))
    ends = {row: ids[row] if row < len(ids) else f"image {row}" for row in (rows[0], rows[-1])}
    return ", ".join(f"{name} ends at {values.by_picture[row][1]:g}" for row, name in ends.items())


def _as_fitted(dtype: np.dtype[Any], values: PixelValues, name: str, like: ItemSpec) -> ValueRule:
    """The rule for new data of a fitted model."""
    model, low, high = _of(like), values.low, values.high
    span = model[1] - model[0]
    on_scale = values.beyond(model[0] - SLACK * span, model[1] + SLACK * span) < 0.01
    is_float, common = dtype.kind == "f", model in (BYTE, UNIT, SIXTEEN)
    unsure = values.whole and high == 1  # 0 and 1: black and white, or two kinds of black
    if low == high == 0 and model[0] == 0:
        return ValueRule(*model)
    if dtype == np.bool_:
        if common:
            return ValueRule(*UNIT)
    elif model == UNIT and unsure and low >= 0:
        return ValueRule(*UNIT)  # black and white, for a picture that has but the two darkest of 256 greys is none
    elif dtype == np.uint8 and common:
        return ValueRule()
    elif common and model != SIXTEEN and values.whole and low >= 0 and FULL <= high <= SIXTEEN[1]:
        return ValueRule(*SIXTEEN)
    elif is_float and common and low >= -0.1 and high <= 1.1 and not (unsure and model != UNIT):
        return ValueRule(*UNIT)
    elif model == BYTE:
        # Floats that are no whole numbers and fill no eight greys were normalised in some other way.
        filled = on_scale and not unsure and (values.whole or high - low >= 8)
        if filled if is_float else low >= 0 and high <= 255:
            return ValueRule()
    elif model == UNIT and not is_float:
        if low >= 0 and 1 < high <= 255:
            return ValueRule()
    elif dtype == np.uint8 and model[1] > 255:
        pass  # the same numbers, or bytes that were made of larger ones
    elif on_scale and not (is_float and span > 16 and -1 <= low < high <= 1):
        return ValueRule(*model)
    kind = "" if dtype.kind == "f" else f" ({dtype.name})"
    raise InputError(
        f"{capital(name)} has pixel values from {low:g} to {high:g}{kind}, but the model was fitted on values from "
        f"{model[0]:g} to {model[1]:g}; bring them to that range first."
    )


def scale_of(like: ItemSpec | None) -> tuple[float, float, bool]:
    """The pixel range that a model was fitted on, and whether it takes pictures of 8 bits."""
    model = BYTE if like is None else _of(like)
    return *model, model in (BYTE, UNIT, SIXTEEN)


def _of(like: ItemSpec) -> Range:
    """The range that a model was fitted on; models of bytes and those of older versions say (0, 0)."""
    return (like.low, like.high) if like.low < like.high else BYTE


def _losses(values: PixelValues, rule: ValueRule, ids: Sequence[str]) -> list[str]:
    """Notes on values that the rule clips or merges."""
    notes, total = [], len(values.by_picture)
    cut = values.beyond(rule.low, rule.high)
    slack = (rule.high - rule.low) / 510  # half a grey
    if values.high > rule.high + slack or values.low < rule.low - slack:
        row, share = values.row_of_high, f"{cut:.2%}" if cut >= 1e-4 else "Less than 0.01%"
        far = f"the largest is {values.high:g}, in {ids[row] if row < len(ids) else f'image {row}'}"
        if values.high <= rule.high:
            far = f"the smallest is {values.low:g}"
        notes.append(f"{share} of the pixel values lie beyond {_span(rule)} and were cut off; {far}.")
    flat = values.flat(rule.low, rule.high, FEW)
    if flat > 0.02 * total:
        notes.append(
            f"{flat} of {total} pictures get fewer than {FEW} of the 256 greys, because their values vary too little "
            f"compared with the range from {_span(rule)}: are all of them in one unit?"
        )
    return notes


def _span(rule: ValueRule) -> str:
    return f"{rule.low:g} to {rule.high:g}"
