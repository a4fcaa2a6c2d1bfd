"""The formats by their names: the file's name is the registration."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import coterie.export.formats as formats
from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.export.jobs import Job
    from coterie.export.writing import Tree


@dataclass(frozen=True)
class FileFormat:
    """One file, whose name ends in `ending`; `write` fills the path that it is given."""

    ending: str
    write: Callable[[Path, Job], None]
    purpose: str  # who reads it, for the user
    pictures: bool = False  # whether the pictures themselves are needed, or only where they are
    only: str = "all"
    heeds: tuple[str, ...] = ()  # the options that are not for all formats


@dataclass(frozen=True)
class FolderFormat:
    """A folder; `write` fills the tree that it is given."""

    write: Callable[[Tree, Job], None]
    purpose: str
    pictures: bool = False
    only: str = "all"  # which items, where the user does not say it
    heeds: tuple[str, ...] = ()


Format = FileFormat | FolderFormat


def format_names() -> list[str]:
    """All formats, sorted."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(formats.__path__))


def format_of(name: str) -> Format:
    """The format of this name. Raises InputError for an unknown one."""
    if name not in format_names():
        near = difflib.get_close_matches(name, format_names(), 1)
        hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(format_names())}."
        raise InputError(f"There is no export format {name[:80]!r}{hint}")
    found: Format = importlib.import_module(f"coterie.export.formats.{name.replace('-', '_')}").FORMAT
    return found
