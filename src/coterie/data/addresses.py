"""Sources at an address (s3://bucket/photos, gs://...): copied once to this computer, by fsspec, and read there.

A copy lies below `addresses` in the folder of data sets, under a name that is made of what the place itself says of its
files (sizes, times, checksums): files that change get another copy, and what is read never changes under a run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard
from urllib.parse import unquote

from coterie.common.words import counted
from coterie.data.named_files import data_root
from coterie.data.reading import ReadingProgress, reading
from coterie.types import InputError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
WEB = ("http", "https", "ftp")  # pages, which have no list of their files
AT_ONCE = 256  # files that are asked for together
SPARE = 1 << 30  # bytes that stay free on the disk


@dataclass(frozen=True)
class Copy:
    """Where the copy of an address lies, and a sentence about it."""

    path: Path
    said: str


_copies: dict[str, Path] = {}  # of this process, as each was last opened


def is_address(text: object) -> TypeGuard[str]:
    """Whether a text is an address that is copied. Those of the web, and other texts, go on to where paths are read."""
    found = SCHEME.match(text) if isinstance(text, str) else None
    return found is not None and found[1].lower() not in WEB


def local(text: str) -> str:
    """The path of the copy of an address as it was last opened, copied now if it was not; any other text as it is."""
    if not is_address(text):
        return text
    return os.fspath(_copies[text] if text in _copies else copied(text).path)


def copied(text: str, progress: ReadingProgress = lambda doing, done, total: None) -> Copy:
    """Have the files at an address on this computer. Raises InputError for what cannot be had.

    Files of this computer (file://) are not copied.
    """
    scheme = SCHEME.match(text)
    assert scheme is not None
    if scheme[1].lower() in ("file", "local"):
        path = _own_file(text[scheme.end() :], text)
        _copies[text] = path
        return Copy(path, f"{text} is {path}.")
    if re.match(r"[^/?]*@", text[scheme.end() :]) or "::" in text:
        raise InputError(
            f"An address holds no name, no password and no chain of places: {text[:40]}... has one; fsspec takes them "
            "from its configuration."
        )
    shown = text.partition("?")[0]
    with reading(f"{shown[:200]} cannot be read"):
        place, path_there = _open(text, scheme[1])
        files = _files_at(place, path_there, shown)
    said = repr((shown, sorted((name, sorted(map(repr, facts.items()))) for name, facts in files.items())))
    key = hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    name = PurePosixPath(shown.rstrip("/")).name
    folder = data_root() / "addresses" / key
    size = sum(int(facts.get("size") or 0) for facts in files.values())
    found = folder.is_dir()
    if not found:
        _fetch(place, files, folder, name, shown, size, progress)
    _copies[text] = folder / name
    what = f"{counted(len(files), 'file')} of {shown} ({size / 1e6:,.1f} MB)"
    if found:
        return Copy(folder / name, f"{what}: the copy of an earlier command in {folder} was read.")
    were, stay, them = ("was", "it stays", "it") if len(files) == 1 else ("were", "they stay", "them")
    return Copy(folder / name, f"{what} {were} copied to {folder}, where {stay} until you remove {them}.")


def _own_file(rest: str, text: str) -> Path:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise InputError(f"{text[:200]} names a file of another computer: a path after file:// begins with a slash.")
    return Path("/" + unquote(path))


def _open(text: str, scheme: str) -> tuple[Any, str]:
    import fsspec

    try:
        place, path = fsspec.core.url_to_fs(text)
    except ImportError as error:  # its sentence names the package
        raise InputError(f"{text[:200]} needs another package: {str(error).splitlines()[0].rstrip('.')}.") from error
    except ValueError as error:
        if "rotocol" in str(error):
            raise InputError(f"{text[:200]} is an address of a kind that fsspec does not know ({scheme}).") from error
        raise
    return place, str(path)


def _files_at(place: Any, path: str, shown: str) -> dict[str, dict[str, Any]]:
    """By the path below the address ("" for a single file) what the place says of each file. Raises InputError."""
    place.invalidate_cache()
    if place.isfile(path):
        return {"": place.info(path)}
    below = path.rstrip("/") + "/"
    files = {}
    for name, facts in place.find(path, detail=True).items():
        inside = name.removeprefix(below)
        parts = inside.split("/")
        hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
        if hidden or name.endswith("/"):  # the latter: how some stores mark an empty folder
            continue
        if inside == name or any(part in ("", ".", "..") for part in parts) or "\0" in inside:
            raise InputError(f"{shown[:200]} has a file whose name is no path below it ({name[:100]!r}): rename it.")
        files[inside] = facts
    if not files:
        raise InputError(f"There is no file at {shown[:200]}: check the address.")
    return files


def _fetch(
    place: Any,
    files: dict[str, dict[str, Any]],
    folder: Path,
    name: str,
    shown: str,
    size: int,
    progress: ReadingProgress,
) -> None:
    """Copy all files beside `folder` and put them there at once, unless another process has done so meanwhile."""
    root = folder.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise InputError(
            f"{root}, where {shown[:200]} would be copied to, cannot be made ({error.strerror})."
        ) from error
    if free < size + SPARE:
        raise InputError(
            f"{shown[:200]} takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free where it would be copied to "
            f"({root}): free some, or set COTERIE_DATA to another folder."
        )
    with tempfile.TemporaryDirectory(dir=root, prefix=".part-", ignore_cleanup_errors=True) as beside:
        whole = Path(beside) / "whole"
        targets = {inside: whole / name / inside if inside else whole / name for inside in files}
        for target in targets.values():
            target.parent.mkdir(parents=True, exist_ok=True)
        names = list(files)
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            with reading(f"{shown[:200]} cannot be copied"):
                place.get([files[inside]["name"] for inside in some], [os.fspath(targets[inside]) for inside in some])
            for inside in some:
                _check_size(files[inside], targets[inside], shown)
                os.utime(targets[inside], (0, 0))  # the copies of several machines are then told apart by nothing
            progress("copying", start + len(some), len(names))
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _check_size(facts: dict[str, Any], target: Path, shown: str) -> None:
    stated = facts.get("size")
    if not target.is_file() or (stated is not None and target.stat().st_size != stated):
        raise InputError(f"{facts['name']} came otherwise than {shown[:200]} says that it is: try again.")
