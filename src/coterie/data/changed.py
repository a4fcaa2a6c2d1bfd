"""Whether pictures are still those that a run grouped: by the times of their files, and by its data's fingerprint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from coterie.data.fingerprint import list_fingerprint
from coterie.records.files import open_regular
from coterie.types import InputError

READ_AT_MOST = 16 << 30  # bytes of pictures that are read to be sure
TICK = 2.0  # seconds by which the clocks of a file system and of the machine may differ


def changed_files(
    path: Callable[[str], Path],
    listed: Sequence[str],
    ids: Sequence[str],
    source: Mapping[str, Any],
    uncounted: set[str],
) -> str | None:
    """What to say where files with the ids of a run hold other pictures than it grouped, else None.

    `listed`: the ids that are there, in the order of the fingerprint; `source`: that entry of the run's record. Files
    are read only where some have another time than at the fit. Where the fingerprint cannot be compared, because some
    are gone or there is too much to read, the files that were written since are counted, which may be copies.
    """
    if not touched((path(item) for item in set(listed).intersection(ids)), source):
        return None
    written, size = [], 0
    for item in ids:
        with suppress(OSError, InputError):  # what is gone is said elsewhere
            facts = os.stat(path(item))
            size += facts.st_size
            if facts.st_mtime > source["read_at"]:
                written.append(item)
    wanted = counted_ids(ids, source, uncounted)
    known = [item for item in listed if item in wanted]
    sure = len(known) == len(wanted) and size <= READ_AT_MOST
    if sure and list_fingerprint(known, _digests(path, known)) == source["fingerprint"]:
        return None
    if not written:
        return _REPLACED if sure else None
    were = "was" if len(written) == 1 else "were"
    which = (
        f"{len(written):,} of {len(ids):,} pictures {were} written since the run was fitted, the first is {written[0]}"
    )
    return f"{which}: {'its' if len(written) == 1 else 'their'} {_GROUPS if sure else _MAY}. {_ADVICE}"


_REPLACED = (
    "Pictures were exchanged since the run was fitted, by files that are older than it: a group is that of the picture "
    "that had the name then. Fit again, or sort what is new with coterie predict."
)
_GROUPS = "group is that of the picture that had the name before"
_MAY = "group may be that of another picture that had the name before"
_ADVICE = "Fit again, or sort what is new with coterie predict."


def touched(files: Iterable[Path], source: Mapping[str, Any]) -> bool:
    """Whether one of these files may be another than at the fit: by its times, which a file that moved has new, too."""
    if source.get("fingerprint") is None or source.get("read_at") is None:  # of a run of an older version
        return False
    for file in files:
        with suppress(OSError):
            facts = os.stat(file)
            if max(facts.st_mtime, facts.st_ctime) > source["read_at"] - TICK:
                return True
    return False


def counted_ids(ids: Sequence[str], source: Mapping[str, Any], uncounted: set[str]) -> set[str]:
    """The ids in the fingerprint of a run's data: its items, and what could not be read but for whole folders."""
    left_out = (str(item["id"]) for item in source.get("skipped") or [])
    return {*ids, *(item for item in left_out if not item.endswith("/"))} - uncounted


def _digests(path: Callable[[str], Path], items: Sequence[str]) -> Iterator[bytes]:
    for item in items:
        try:
            with os.fdopen(open_regular(path(item)), "rb") as file:
                yield hashlib.file_digest(file, "sha256").digest()
        except (OSError, InputError):
            yield b"unreadable"
