"""`review/log.jsonl`: one event a line, appended, on the disk before anyone hears that it was saved.

JSON lines, not SQLite: they can be read, compared and mended by hand, and need no second file on a network disk. A last
line without its end was never acknowledged and is cut off. A line elsewhere that cannot be read refuses the whole log,
since what came after it may have built on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from coterie.common.locks import Lock as FileLock
from coterie.common.outputs import what_helps
from coterie.records.files import check_regular
from coterie.review.events import FORMAT, KINDS, Data, Event, content_of
from coterie.types import CoterieError, InputError

FOLDER, LOG, LOCK = "review", "log.jsonl", "lock"


class BeingReviewed(InputError):
    """Another process holds the review of this run."""


class LogBroken(CoterieError):
    """The log takes no more events: the disk is full or has failed, or the log was moved away."""


class Conflict(CoterieError):
    """Events that the sender had not seen touch the same rows or groups; nothing was written."""

    def __init__(self, events: list[Event]) -> None:
        some = ", ".join(f"{event.seq} ({event.type})" for event in events[:5])
        super().__init__(f"This was changed meanwhile, by event {some}: look at it again.")
        self.events = events


class Lock:
    """One process a review. The file stays; the lock ends with the process, however that ends.

    On a file system without locks nothing is locked, as with run folders and exports.
    """

    def __init__(self, run: Path) -> None:
        folder = run / FOLDER
        try:
            folder.mkdir(exist_ok=True)
            file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror}): give a run in a place of yours."
            ) from error
        try:
            self._held: FileLock | None = FileLock(file)
        except BlockingIOError as error:
            holder = (folder / LOCK).read_bytes()[:20].decode("ascii", "replace").strip()
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise BeingReviewed(f"{run} is being reviewed already by {who}: open its address, or stop it.") from error
        except (ImportError, OSError):
            self._held = None
            return
        with contextlib.suppress(OSError):  # the number is for the message alone; a full disk must not lock people out
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have the review."""
        if self._held is not None:
            self._held.release()


def check_closed(run: Path) -> None:
    """Raise BeingReviewed where a process has the review of this run open: a new result would change under it."""
    try:
        file = os.open(run / FOLDER / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # nobody ever reviewed it
        return
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: all processes of a run ask at once
    except BlockingIOError as error:
        raise BeingReviewed(f"{run} is being reviewed: stop `coterie review` before the run goes on.") from error
    except (ImportError, OSError):  # Windows, or a file system without locks
        return
    finally:
        os.close(file)


def read_log(path: Path) -> tuple[list[tuple[Event, Data]], int]:
    """The events of a log and the bytes that they take; a torn last line is left out.

    Raises InputError for any other line that is no event, by its number.
    """
    if not os.path.lexists(path):
        return [], 0
    check_regular(path)
    found: list[tuple[Event, Data]] = []
    size = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                event = Event.model_validate_json(line)
                if event.seq != len(found) or (event.type == "open") != (event.seq == 0):
                    raise ValueError("its number is not the next one")
                found.append((event, content_of(event.type, event.data)))
            except (ValidationError, ValueError) as error:  # InputError is a ValueError
                if _is_newer(line):
                    raise InputError(
                        f"Line {number} of {path.parent.name}/{path.name} is of a newer version of coterie: update it "
                        "to go on with this review."
                    ) from error
                raise InputError(
                    f"Line {number} of {path.parent.name}/{path.name} cannot be read: put back a copy, or cut the file "
                    "before it."
                ) from error
            size += len(line)
    return found, size


def _is_newer(line: bytes) -> bool:
    """Whether a line is an event, but of a version or of a kind that is not known here."""
    try:
        found = json.loads(line)
        version, kind, content = found["v"], found["type"], found["data"]
        form = content.get("format", FORMAT) if kind == "open" else FORMAT
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return any(type(one) is int and one > FORMAT for one in (version, form)) or (
        isinstance(kind, str) and kind.isidentifier() and kind not in KINDS
    )


def digest(events: Iterable[tuple[Event, Data]]) -> str:
    """The SHA-256 of a log with these events, in hexadecimal digits."""
    found = hashlib.sha256()
    for event, _ in events:
        found.update(event.line())
    return found.hexdigest()


def was_reviewed(run: Path) -> bool:
    """Whether somebody decided something about the result of this run folder. Raises InputError for a damaged log."""
    return len(read_log(run / FOLDER / LOG)[0]) > 1


class Log:
    """A log open for writing; the lock is held by whoever has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events, self._size = read_log(path)
        self._ops = {event.op: event for event, _ in self.events}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if os.fstat(self._file).st_size > self._size:
                os.ftruncate(self._file, self._size)  # a line that nobody was told of
                os.fsync(self._file)
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): change its rights.") from error
        self._torn = False  # whether the rest of a line could not be taken back
        if not self._size:
            _sync_folder(path.parent)

    def known(self, op: str, kind: str) -> Event | None:
        """The event that was already written under this `op`. Raises InputError where it was of another kind."""
        event = self._ops.get(op)
        if event is not None and event.type != kind:
            raise InputError(f"The operation {op} was another event, {event.type}: give each its own number.")
        return event

    def append(self, event: Event, content: Data) -> None:
        """Write an event to the disk. Raises LogBroken; then nothing of it is there."""
        line = event.line()
        if not self.there:  # what is written into a file that was removed is gone with the process
            raise LogBroken(
                f"The decision could not be saved: {self.path} is not there any more. Move the run back, it is sent "
                "again."
            )
        # Of one put back or cut meanwhile, or of two reviews without locks, lines would be lost, or a gap come into it.
        if (size := os.fstat(self._file).st_size) != self._size and not (self._torn and size > self._size):
            raise LogBroken(
                f"The decision could not be saved: {self.path} was changed by another program. End this review and "
                "begin it again, it is sent again."
            )
        try:
            if self._torn:
                os.ftruncate(self._file, self._size)
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._size + written)
            os.fsync(self._file)
        except OSError as error:
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            reason = error.strerror or error
            helps = what_helps(error) or "see to the disk"
            raise LogBroken(f"The decision could not be saved ({reason}): {helps}, it is sent again.") from error
        self._torn = False
        self._size += len(line)
        self.events.append((event, content))
        self._ops[event.op] = event

    @property
    def there(self) -> bool:
        """Whether the open file is still the one at its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except OSError:
            return False

    @property
    def closed(self) -> bool:
        """Whether it takes no more events."""
        return self._file < 0

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk only when its folder is."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
