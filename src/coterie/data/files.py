"""Paths as a user gives them, and what may be opened: regular files only, since a pipe or a device may never end."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from coterie.common.outputs import printable
from coterie.types import InputError

SYSTEM = ("/proc", "/sys", "/dev")  # file systems of the kernel: their "files" are no files, and have no end
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def path_of(text: str, what: str = "the source") -> Path:
    """Return the path that a text means, with `~` expanded; InputError for a text that can be no path."""
    if not text.strip():
        raise InputError(f"The path of {what} is empty; is a variable of the shell not set? Give . for this folder.")
    if "\0" in text:
        raise InputError(f"The path of {what}, {text[:200]!r}, has a zero byte in it, which no name may have.")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme:
        advice = "leave file:// out" if scheme[1].lower() == "file" else "download it first"
        raise InputError(f"{text[:200]} is an address, and coterie reads files and folders only: {advice}.")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{text[:200]} names a user that this machine does not know; write the path out.") from error


def kind_of(mode: int) -> str:
    """Say what a file of this `st_mode` is, "" for a regular one."""
    return "" if stat.S_ISREG(mode) else KINDS.get(stat.S_IFMT(mode), "no regular file")


def regular_file(path: str | os.PathLike[str], what: str) -> Path:
    """Return the path of a regular file, also behind links; InputError for anything else, such as a pipe.

    `what` begins the sentence: "The label file".
    """
    name = escaped(os.fspath(path))
    try:
        kind = kind_of(os.stat(path).st_mode)
    except FileNotFoundError as error:
        raise InputError(f"{what} {name} does not exist.") from error
    except (OSError, ValueError) as error:  # no rights on the way there, a name too long, a zero byte in it
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{what} {name[:200]!r} cannot be looked up ({why}); check the path and its rights."
        ) from error
    if kind:
        raise InputError(f"{what} {name} is {kind}; give a file.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} {name} may not be read; change its rights.")
    return Path(path)


def system_folders() -> frozenset[int]:
    """The devices (`st_dev`) of the kernel's own file systems."""
    found = set()
    for path in ("/", *SYSTEM):
        try:
            found.add((path, os.stat(path).st_dev))
        except OSError:
            continue
    root = {device for path, device in found if path == "/"}
    return frozenset(device for _, device in found if device not in root)


def escaped(path: str) -> str:
    """Return the path with control characters and bytes that are not UTF-8 as escapes, for tables and screens."""
    path = printable(path)
    if path.isprintable():
        return path
    return "".join(
        repr(sign)[1:-1] if ord(sign) < 32 or 127 <= ord(sign) < 160 or sign in "\u2028\u2029" else sign
        for sign in path
    )
