"""The folder of a run: a new one where the user names none, and none that stays empty."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coterie.common.outputs import printable
from coterie.training.runfolder import Held
from coterie.types import InputError

FOLDER = Path("runs")  # where runs are made of which the user names no folder


@contextmanager
def run_folder(given: Path | None, name: str) -> Iterator[Path]:
    """The folder that a run is made in: the given one, or a new one, `runs/name`. Raises InputError.

    Folders that were not there before and are empty in the end, because the run was refused, are removed again.
    """
    place = given or FOLDER
    new = [folder for folder in (place, *place.parents) if not os.path.lexists(folder)]
    out = given or new_folder(place, name)
    try:
        yield out
    except Held:  # by a process that made the folder meanwhile, and has written nothing to it yet
        new = []
        raise
    finally:
        for folder in new if given is not None else (out, *new):
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def new_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`, or the first of name-2, name-3, ... that is not there: no two processes get the same one.

    Raises InputError where none can be made.
    """
    name = printable(name)
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a system whose file names are ASCII
        name = name.encode("ascii", "backslashreplace").decode()
    name = name if len(name.encode()) < 200 else name[-60:]
    folder, number = parent / name, 2
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                folder, number = parent / f"{name}-{number}", number + 1
    except OSError as error:
        raise InputError(f"The run folder {folder} cannot be made ({error.strerror}): choose one with -o.") from error
