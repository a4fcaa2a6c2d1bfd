"""The folder of a run: what is in it, and `run.yaml`, from which the run can be repeated."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from coterie.common.locks import Lock
from coterie.common.outputs import remove_parts, replacing, write_atomically
from coterie.records import read_record
from coterie.records.files import yaml_of
from coterie.training.sameness import difference
from coterie.types import InputError

Resume = bool | Literal["unfinished"]  # `unfinished`: as True, but a run that is done is left as it is


START, START_FILES = ("checkpoints", "init"), ("weights.safetensors", "manifest.json")  # the last one is written last


class Held(InputError):
    """Another process is writing to the run folder."""


class Done(InputError):
    """The run in the folder is done, and only one that is not was to be resumed."""


def is_done(path: Path) -> bool:
    """Whether a folder holds a run that has ended well, with its answers. Raises InputError for a damaged record."""
    model = [path / "model" / name for name in START_FILES]
    if not all(file.exists() for file in (path / "run.yaml", path / "result.parquet", *model)):
        return False
    return read_record(path).get("status") == "done"


@dataclass
class RunFolder:
    """`path` None keeps a run in memory: the estimator's default. Of several processes only one writes."""

    path: Path | None
    writes: bool = True
    record: dict[str, Any] = field(default_factory=dict)
    held: Lock | None = None  # on the folder, while this process alone may write to it
    stands: bool = False  # the folder's answers are those of a finished run until others are written, and so its record

    def prepare(self, *, resume: Resume) -> None:
        """Make the folder, or take it up again, and hold it. Raises InputError when it may not be used, Held, Done."""
        if self.path is None or not self.writes:
            return
        check_place(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_made(self.path, error) from error
        self._hold()
        try:
            self._check(resume=resume)
        except BaseException:
            self.release()
            raise

    def _hold(self) -> None:
        """Let no other process write here until `release`, or until this process has ended in any way."""
        assert self.path is not None
        try:
            self.held = Lock(os.open(self.path, os.O_RDONLY))
        except BlockingIOError as error:
            raise Held(
                f"Another run is being written to {self.path}: wait for its end, or choose another folder with -o."
            ) from error
        except (ImportError, OSError):  # Windows; a file system without locks, or a folder that may not be read
            pass

    def release(self) -> None:
        """Let others write here."""
        if self.held is not None:
            self.held.release()
            self.held = None

    def __del__(self) -> None:
        self.release()

    def _check(self, *, resume: Resume) -> None:
        assert self.path is not None
        try:
            remove_parts(self.path)
            # What a run leaves that was killed before it had a record: decoded pictures, embeddings.
            holds = any(entry.name != "cache" or not _only_pixels(entry) for entry in self.path.iterdir())
        except OSError as error:
            raise InputError(
                f"The run folder {self.path} cannot be read ({error.strerror}): choose another with -o."
            ) from error
        if holds:
            if not (self.path / "run.yaml").exists():
                raise InputError(f"{self.path} is not empty and holds no run: choose another folder with -o.")
            if not resume:
                raise InputError(
                    f"{self.path} already holds a run: go on with --resume, or choose another folder with -o."
                )
            # Only now, as the folder is held: before, another process may have been about to finish it.
            if resume == "unfinished" and self.is_done:
                raise Done(f"The run in {self.path} is done.")
        if not os.access(self.path, os.W_OK):
            raise InputError(
                f"The run folder {self.path} may not be written: change its rights or choose another with -o."
            )
        _check_room(self.path, self.path)

    @property
    def is_done(self) -> bool:
        """Whether the folder holds a run that has ended well, with its answers."""
        return self.path is not None and is_done(self.path)

    def check_same(self, record: dict[str, Any]) -> None:
        """A resumed run must be the same run. Raises InputError that names the first difference of the records."""
        if self.path is None or not (self.path / "run.yaml").exists():
            return
        before = read_record(self.path)
        now = record["source"]["fingerprint"]
        if now and before.get("source", {}).get("fingerprint") != now:  # empty: a dry run of pictures to be embedded
            raise InputError(f"The data have changed since {self.path} was begun: start a new run in another folder.")
        if (found := difference(before, record)) is not None:
            name, was, asked = found
            raise InputError(
                f"{self.path} was begun with {name} = {_brief(was)}, not {_brief(asked)}: resume it with the same "
                "settings, or start a new run in another folder."
            )

    def update(self, **entries: Any) -> None:
        """Add entries to the record, and write `run.yaml` whole unless that of a finished run stands."""
        self.record.update(entries)
        if self.path is not None and self.writes and not self.stands:
            write_atomically(self.path / "run.yaml", yaml_of(self.record))

    def keep_start(self, run: Path) -> None:
        """Keep the model of the run that this one starts from, which may be gone when this one is resumed.

        It takes no room while that run is there: a link will do, for files of a model are only ever replaced.
        Raises NotWritten.
        """
        if self.path is None or not self.writes or self.start_kept:
            return
        source, target = run / "model" if (run / "model").is_dir() else run, self.path.joinpath(*START)
        for name in START_FILES:
            with contextlib.suppress(OSError):
                target.mkdir(parents=True, exist_ok=True)
                os.link(source / name, target / name)
            if not (target / name).exists():  # another disk, or one without links
                with replacing(target / name) as beside:
                    shutil.copyfile(source / name, beside)

    @property
    def start_kept(self) -> Path | None:
        """The folder of the model that `keep_start` kept, whole."""
        folder = self.file(*START)
        return folder if folder is not None and (folder / START_FILES[-1]).exists() else None

    def file(self, *parts: str) -> Path | None:
        return None if self.path is None else self.path.joinpath(*parts)


def check_place(path: Path) -> None:
    """Raise InputError where no run folder can be or be made, without making one."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: choose another folder with -o.")
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path} is a link that leads nowhere: remove it, or choose another folder with -o.")
    if (around := _run_around(path)) is not None:
        raise InputError(f"{path} lies in the run {around}: choose another folder with -o.")


def check_new(path: Path) -> None:
    """Raise InputError where a run would be refused its folder, which is not there yet and is not made."""
    check_place(path)
    above = next(folder for folder in Path(os.path.abspath(path)).parents if os.path.lexists(folder))
    wrong = None if os.access(above, os.W_OK | os.X_OK) else errno.EACCES
    if not above.is_dir():
        wrong = errno.ENOTDIR
    if wrong is not None:
        raise _not_made(path, OSError(wrong, os.strerror(wrong)))
    _check_room(path, above)


def _not_made(path: Path, error: OSError) -> InputError:
    return InputError(f"The run folder {path} cannot be made ({error.strerror}): choose another with -o.")


def _check_room(path: Path, there: Path) -> None:
    """Raise InputError where the disk of `there` has no room for the run folder `path`."""
    free = shutil.disk_usage(there).free
    if free < 50 << 20:
        raise InputError(f"Only {free >> 20} MiB are free where {path} lies: free some space or choose another -o.")


def _run_around(path: Path) -> Path | None:
    """The run in whose folder a new one would lie, and with which it would be copied, moved or removed."""
    if os.path.lexists(path / "run.yaml"):  # begun, wherever that is
        return None
    for folder in Path(os.path.realpath(path)).parents:
        if (folder / "run.yaml").is_file() and any((folder / name).exists() for name in ("history.jsonl", "model")):
            return folder
    return None


def _brief(value: Any) -> str:
    """A value as text; of a long one only the beginning."""
    text = repr(value)
    return text if len(text) < 120 else f"{text[:120]} ..."


def _only_pixels(cache: Path) -> bool:
    """Whether a folder holds nothing but the pictures that a run decoded, or their embeddings."""
    return cache.is_dir() and all(file.name.startswith(("images-", ".images-", "features")) for file in cache.iterdir())
