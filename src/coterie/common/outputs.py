"""Writes whole files or none, and never replaces a file that coterie did not write.

May not live here: anything that knows what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from coterie.types import InputError

# What a run folder holds. No other output may take such a place in it.
FILES = (
    *("run.yaml", "history.jsonl", "result.parquet", "report.html", "metrics.json", "ood.json", "gallery.npz"),
    *("map.npz", "traceback.txt", "result.reviewed.parquet", "result.recalibrated.parquet", "recalibration.json"),
    *("duplicates.json", "choose_k.json"),
)
OF_SEVERAL = ("ensemble.parquet", "ensemble.json")  # what a folder of runs holds beside them
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FOLDERS = ("model", "checkpoints", "cache", "review")
# What is being written, and by which process. Without the dot in front it may be a download of the user's.
PART = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.part")

Given = str | os.PathLike[str] | None


class NotWritten(InputError):
    """An output could not be written: the disk is full, or the place may not be written."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file or leave the old one. Raises NotWritten when it cannot be written.

    Of text, what UTF-8 has no form for (the bytes of a file name that is in no encoding) is written as an escape.
    """
    with replacing(path) as beside, open(beside, "wb") as file:
        file.write(printable(content).encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; the file there takes the place `path` when the block ends, whole or not at all.

    Raises NotWritten for an OSError in the block.
    """
    beside = path.with_name(f".{_part_of(path.name)}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        _remove(beside)


def not_written(path: Path, error: OSError) -> NotWritten:
    """The error of a command whose output could not be written, and what may help: not every command has an -o."""
    helps = what_helps(error)
    advice = f"{helps} or take another place" if helps else "take another place"
    return NotWritten(f"{path} could not be written ({error.strerror}): {advice}.")


def what_helps(error: OSError) -> str:
    """What the user can do, at the place that was to be written, about this error; empty where nothing is known."""
    if error.errno == errno.EFBIG:  # the disk may be empty
        return "allow larger files (ulimit -f)"
    if error.errno in NO_ROOM:
        return "free some space"
    return "change its rights" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else ""


def typed(path: Path | str) -> str:
    """A path as it is typed in a shell, for commands in messages: in quotes where it has spaces, and never an option.

    >>> typed("runs/my photos"), typed("-x")
    ("'runs/my photos'", './-x')
    """
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def printable(text: str) -> str:
    """The text with bytes that are not UTF-8, as Python keeps them in file names, written as \\xNN."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        # First the bytes of file names, which are half a pair each; what is left are halves of other pairs.
        whole = text.encode("utf-8", "backslashreplace") if re.search("[\ud800-\udc7f\udd00-\udfff]", text) else None
        return (whole or text.encode("utf-8", "surrogateescape")).decode("utf-8", "backslashreplace")


def check_output(
    out: Path,
    reads: Iterable[Given] = (),
    *,
    ours: Callable[[Path], bool] | None = None,
    way_out: str = "",
    own: Path | None = None,
) -> Path:
    """The file that `out` names, links followed. Raises InputError where writing it would destroy something.

    It may be none of the files that the command `reads`, nothing of a run folder, and no file that is there already,
    unless `ours` says that coterie wrote it. Without `ours` nobody asks; `way_out` ends the sentence. `own` is a place
    in a run folder that this command alone writes. What a command
    that was killed left of this file is removed.
    """
    try:
        path = Path(os.path.realpath(out))
        if path.is_dir():
            raise InputError(f"-o {out} is a folder: give the name of a file.")
        above = next(folder for folder in path.parents if os.path.lexists(folder))
        for given in reads:
            if given is not None and _same(path, given):
                raise InputError(f"-o {out} is {given}, which this command reads: give another name.")
        if (own is None or not _same(path, own)) and (run := _run_around(path)):
            raise InputError(f"-o {out} is the place of a file of the run in {run}: give another name.")
        there = os.path.lexists(path)
    except (OSError, ValueError) as error:  # InputError is a ValueError, too
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"-o {out} cannot be looked up ({reason}): give another place.") from error
    if not above.is_dir():
        raise InputError(f"-o {out} cannot be written, for {above} is a file: give another place.")
    if not os.access(above, os.W_OK):
        raise InputError(f"-o {out} cannot be written, for {above} is read-only: give another place.")
    if there and not path.is_file():
        raise InputError(f"-o {out} is no regular file: give another name.")
    if there and (ours is None or not ours(path)):
        stranger = "" if ours is None else " and coterie did not write it"
        raise InputError(f"-o {out} is there already{stranger}: give another name, or move it away{way_out}.")
    remove_parts(path.parent, path.name)
    return path


def check_folder(out: Path | None, reads: Iterable[Given], writes: Iterable[str] = FILES + FOLDERS) -> None:
    """Raise InputError where `writes`, in the run folder `out`, would replace one of the files that are read."""
    if out is None:
        return
    try:
        folder, writes = Path(os.path.realpath(out)), set(writes)
        folder.exists()
    except (OSError, ValueError) as error:  # a name too long, no rights on the way there
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{str(out)[:200]!r} cannot be looked up ({reason}): choose another folder with -o."
        ) from error
    for given in reads:
        if given is None:
            continue
        path = Path(os.path.realpath(os.path.expanduser(given)))
        if not os.path.lexists(path):
            continue  # the name of a data set, or what will be refused anyway
        inside = path.relative_to(folder).parts if path.is_relative_to(folder) else None
        if _same(folder, path) or (inside and inside[0] in writes):
            raise InputError(
                f"{given} is read, and what is written to the run folder {out} would replace it: give another file or "
                "another folder."
            )
    if run := _run_around(folder):
        raise InputError(f"{out} is a place of the run in {run}: choose another folder with -o.")


def remove_parts(folder: Path, only: str | None = None) -> None:
    """Remove the unfinished files of processes that have ended: those of `folder`, or of one file in it."""
    for place in (folder, *(folder / name for name in FOLDERS if only is None)):
        try:
            entries = list(os.scandir(place))
        except OSError:
            continue
        for entry in entries:
            found = PART.fullmatch(entry.name)
            if found and (only is None or found["name"] == _part_of(only)) and not lives(int(found["process"])):
                _remove(Path(entry.path))


def _run_around(path: Path) -> Path | None:
    """The run folder, or folder of runs, in which `path` is the place of one of its files, if there is one."""
    if path.name.casefold() in OF_SEVERAL and all((path.parent / name).is_file() for name in OF_SEVERAL):
        return path.parent
    for run in path.parents:
        first = path.relative_to(run).parts[0].casefold()
        whole = first in FOLDERS or (run == path.parent and first in FILES)
        if whole and ((run / "run.yaml").is_file() or (run / "model" / "manifest.json").is_file()):
            return run
    return None


def _same(path: Path, given: str | os.PathLike[str]) -> bool:
    """Whether both paths lead to one file."""
    other = Path(os.path.expanduser(given))
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def _part_of(name: str) -> str:
    """The name, or as much of it as leaves room for more within the 255 bytes of a file system."""
    return name if len(os.fsencode(name)) < 220 else name[:50]


def lives(process: int) -> bool:
    """Whether another process of that number is there; this one has begun nothing when it asks."""
    if process == os.getpid() or os.name == "nt":  # Windows has no signal that only asks
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to someone else
        return True
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a place that may not be written holds nothing of ours
        path.unlink(missing_ok=True)
