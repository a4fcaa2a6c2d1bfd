"""The bounds of numbers in settings, as type aliases for the fields; `training.coerce` checks them.

Every number is finite and no truth value. The upper bounds are far beyond use; they keep a typing error from asking for
petabytes. What depends on the data or on other settings is checked by the settings themselves.
"""

from __future__ import annotations

import numbers
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError


def plain_number(value: Any) -> Any:
    """NumPy's numbers as Python's; a truth value is no number, nor is the text 1_0, which Python takes for ten."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        raise PydanticCustomError("truth_value", "it takes a number")
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise PydanticCustomError("plain_digits", "it takes a number in plain digits")
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and value != value:
        raise PydanticCustomError("finite_number", "it must be finite")
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, float) else value


def rising(pair: tuple[float, float]) -> tuple[float, float]:
    """Check that a pair (lowest, highest) is in this order."""
    if pair[0] > pair[1]:
        raise PydanticCustomError("falling", "the first of the two must not be larger than the second")
    return pair


NUMBER = BeforeValidator(plain_number)
RISING = AfterValidator(rising)

Seed = Annotated[int, NUMBER, Field(ge=0, lt=2**63)]
Groups = Annotated[int, NUMBER, Field(le=2**31)]  # too few of them have a sentence of their own
Epochs = Annotated[int, NUMBER, Field(ge=0, le=1_000_000)]
BatchSize = Annotated[int, NUMBER, Field(ge=2, le=2**31)]
Count = Annotated[int, NUMBER, Field(ge=1, le=2**31)]
Restarts = Annotated[int, NUMBER, Field(ge=1, le=1000)]
Width = Annotated[int, NUMBER, Field(ge=1, le=65_536)]  # of a layer, or rows of a table
Memory = Annotated[int, NUMBER, Field(ge=1, le=2**20)]  # items or groups that a table of vectors holds
Copies = Annotated[int, NUMBER, Field(ge=1, le=100)]
Times = Annotated[int, NUMBER, Field(ge=0, le=100)]  # that something is done to an image
Pixels = Annotated[int, NUMBER, Field(ge=0, le=10_000)]
Side = Annotated[int, NUMBER, Field(ge=1, le=10_000)]  # of an image in pixels

Rate = Annotated[float, NUMBER, Field(ge=0, le=1e30, allow_inf_nan=False)]
PositiveRate = Annotated[float, NUMBER, Field(gt=0, le=1e30, allow_inf_nan=False)]
Weight = Annotated[float, NUMBER, Field(ge=0, le=1e9, allow_inf_nan=False)]  # of a loss
Positive = Annotated[float, NUMBER, Field(ge=1e-6, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, NUMBER, Field(ge=0, le=1, allow_inf_nan=False)]  # or a chance, or a momentum
PartShare = Annotated[float, NUMBER, Field(gt=0, lt=1, allow_inf_nan=False)]
BelowOne = Annotated[float, NUMBER, Field(ge=0, lt=1, allow_inf_nan=False)]
AboveZero = Annotated[float, NUMBER, Field(gt=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, NUMBER, Field(ge=0)]  # infinite: never
Degrees = Annotated[float, NUMBER, Field(ge=0, le=360, allow_inf_nan=False)]
Slant = Annotated[float, NUMBER, Field(ge=0, le=80, allow_inf_nan=False)]  # degrees of a shear
Strength = Annotated[float, NUMBER, Field(ge=0, le=100, allow_inf_nan=False)]  # of a distortion
Sigma = Annotated[float, NUMBER, Field(ge=0.01, le=1000, allow_inf_nan=False)]  # of a blur, in pixels
Ratio = Annotated[float, NUMBER, Field(ge=0.01, le=100, allow_inf_nan=False)]
Enlarging = Annotated[float, NUMBER, Field(ge=1, le=8, allow_inf_nan=False)]
HueShift = Annotated[float, NUMBER, Field(ge=0, le=0.5, allow_inf_nan=False)]  # turns; half a turn is the farthest
