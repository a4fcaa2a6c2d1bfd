"""What a caller of the Python functions gives (random states, whole numbers, paths), read or refused in a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from coterie.types import InputError


def seed_from(random_state: int | np.integer | np.random.RandomState | None) -> int:
    """A random state as scikit-learn has them, as the seed of a run; None: a different seed each time.

    NumPy's global random state is not used. Raises InputError for what is none, a truth value included.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    if isinstance(random_state, bool):
        raise InputError(f"random_state is {random_state}: it takes a whole number or None.")
    if isinstance(random_state, int | np.integer):
        if random_state < 0:
            raise InputError(f"random_state is {random_state}: it must be at least 0.")
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    from sklearn.utils import check_random_state  # which takes a second, and a command that is refused does without

    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise InputError(f"random_state is {repr(random_state)[:80]}: it takes a whole number or None.") from error


def as_whole(given: Any, name: str) -> int:
    """A whole number. Raises InputError for anything else, a truth value included."""
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise InputError(f"{name} is {repr(given)[:80]}: it takes a whole number.")
    return int(given)


def whole_number(given: Any, name: str, low: int, high: int) -> int:
    """A whole number within bounds. Raises InputError for anything else, a truth value included."""
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or not low <= given <= high:
        raise InputError(f"{name} is {repr(given)[:80]}: it takes a whole number from {low} to {high}.")
    return int(given)


def share(given: Any, name: str) -> float:
    """A number from 0 to 1. Raises InputError for anything else, a truth value included."""
    return number(given, name, 0, 1)


def is_number(given: Any) -> bool:
    """Whether it is a real number, which a truth value is not."""
    return isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool)


def number(given: Any, name: str, low: float, high: float) -> float:
    """A number within bounds. Raises InputError for anything else, a truth value included."""
    if not is_number(given) or not low <= given <= high:
        raise InputError(f"{name} is {repr(given)[:80]}: it takes a number from {low:g} to {high:g}.")
    return float(given)


def array_from(given: Any, name: str) -> NDArray[Any]:
    """What NumPy makes of it. Raises InputError for rows of different lengths and the like, and for masked values."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):  # which would count as the values below
        raise InputError(f"{name} has masked values: leave those items out.")
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of a tensor that has gradients
        raise InputError(f"{name} is {repr(given)[:80]}: it takes an array.") from error


def numbers_from(given: Any, name: str) -> NDArray[np.float64]:
    """An array of numbers as float64. Raises InputError for texts, complex numbers and what is none."""
    array = array_from(given, name)
    if array.dtype.kind in "biufO":
        with suppress(TypeError, ValueError, OverflowError):
            return np.asarray(array, np.float64)
    raise InputError(f"{name} is {repr(given)[:80]}: it takes numbers.")


def mask_from(given: Any, name: str, n: int) -> NDArray[np.bool_]:
    """Which of n items are marked; None: none of them. Raises InputError for anything but n truth values."""
    if given is None:
        return np.zeros(n, bool)
    array = array_from(given, name)
    if array.dtype.kind != "b" or array.shape != (n,):
        raise InputError(f"{name} is {repr(given)[:80]}: it takes {n} truth values.")
    return array


def text(given: Any, name: str) -> str:
    """A text. Raises InputError for anything else."""
    if not isinstance(given, str):
        raise InputError(f"{name} is {repr(given)[:80]}: it takes a text.")
    return given


def path_from(given: Any, what: str) -> Path:
    """The given path, with ~ as the user's own folder. Raises InputError, which names it as `what`, for no path."""
    try:
        text = os.fsdecode(given)
    except TypeError as error:
        raise InputError(f"{what} is {repr(given)[:80]}: it takes a path.") from error
    if not text or "\0" in text:
        raise InputError(f"{what} is {text[:80]!r}, which no path can be.")
    return Path(os.path.expanduser(text) if text == "~" or text.startswith("~/") else text)


def flag(given: Any, name: str) -> bool:
    """A truth value. Raises InputError for anything else: "no" would count as true."""
    if not isinstance(given, bool | np.bool_):
        raise InputError(f"{name} is {repr(given)[:80]}: it takes True or False.")
    return bool(given)


def are_several(columns: Any) -> TypeGuard[Iterable[str]]:
    """Whether columns are named one by one."""
    # An array without axes says that it is iterable, and is not.
    several = isinstance(columns, Iterable) and not isinstance(columns, str | bytes | Mapping)
    return several and getattr(columns, "ndim", 1) > 0
