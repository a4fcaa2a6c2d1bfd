"""Optional packages: imported, or refused in a sentence that says whether they are missing or broken."""

from __future__ import annotations

import importlib
from types import ModuleType

from coterie.common.shortage import shortage
from coterie.common.words import kind_in_a_line
from coterie.types import InputError


def imported(name: str, absent: str) -> ModuleType:
    """The module of an optional package.

    Raises InputError: `absent` where it, or a package that it needs, is not installed, and else what its import says.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(absent) from error
    except Exception as error:  # of another processor or version, or under python -OO
        if shortage(error) is not None:
            raise
        raise InputError(
            f"The package {name.partition('.')[0]} is installed, but cannot be imported here "
            f"({kind_in_a_line(error).rstrip('.')}): repair it, or install it again."
        ) from error
