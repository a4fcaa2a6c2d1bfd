"""Exports are written to OUT.part and renamed when complete; nothing of anyone else's is replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.common.locks import Lock
from coterie.common.outputs import Given, check_output, lives, not_written, remove_parts, replacing
from coterie.records.files import read_text
from coterie.types import InputError

MAP = "coterie.jsonl"  # first line: what this is; then which id each file or row is
FORMAT = 1
LARGEST_MAP = 1 << 30  # bytes


@dataclass
class Tree:
    """A folder that is being written. Every file gets its place from here, so that all are known."""

    root: Path
    head: dict[str, Any]  # the first line of `coterie.jsonl`
    lines: list[dict[str, Any]] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    watch: Callable[[], None] = lambda: None  # called for every picture

    def place(self, name: str, item: str | None = None) -> Path:
        """Where the file `name` ("train/a.png") goes; `item` is the id that it is the picture of."""
        self.lines.append({"file": name} if item is None else {"file": name, "id": item})
        if item is not None:
            self.watch()
        path = self.root / name
        if path.parent not in self.folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.folders.add(path.parent)
        return path

    def write(self, name: str, content: bytes | str) -> None:
        """Write a whole file."""
        self.place(name).write_bytes(content.encode() if isinstance(content, str) else content)

    def rows(self, key: str, values: Iterable[Any], ids: Iterable[str]) -> None:
        """Say which id each row is, where items have no files of their own."""
        self.lines.extend({key: value, "id": item} for value, item in zip(values, ids, strict=True))

    def finish(self) -> None:
        """Write `coterie.jsonl`."""
        text = "".join(as_json(line) + "\n" for line in (self.head, *self.lines))
        (self.root / MAP).write_bytes(text.encode())


def as_json(value: Any) -> str:
    """One line of JSON in UTF-8, the same for the same value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def check_place(out: Path, reads: Iterable[Given], *, folder: bool, overwrite: bool) -> Path:
    """The path of the export, links followed. Raises InputError where writing it would destroy something."""
    if not folder:
        if overwrite:
            return check_output(out, reads, ours=_is_table)
        return check_output(out, reads, way_out=", or --overwrite to replace what coterie wrote there")
    given_paths = [given for given in reads if given is not None]
    # What a file may not be, no folder may be: a place of a run, below a file, where nobody may write.
    path = Path(os.path.realpath(out))
    if path.is_dir():
        check_output(path / MAP, given_paths, ours=lambda path: True)
    else:
        check_output(out, given_paths)
    for given in given_paths:
        other = Path(os.path.realpath(os.path.expanduser(given)))
        if path == other or path.is_relative_to(other):
            inside = "" if path == other else " inside of"
            raise InputError(
                f"-o {out} is{inside} {given}, which this command reads: what is written there would be read the next "
                "time; choose another folder."
            )
        if other.is_relative_to(path):
            raise InputError(f"-o {out} holds {given}, which this command reads: choose another folder.")
    if path.is_dir() and any(path.iterdir()):
        if not overwrite:
            raise InputError(
                f"{out} is not empty: give a new folder, or --overwrite to replace what coterie wrote there."
            )
        if (other_file := _stranger(path)) is not None:
            raise InputError(
                f"{out} holds {other_file}, which coterie did not write: move it away, or give another -o."
            )
    return path


def head_of(**entries: Any) -> dict[str, Any]:
    """The first line of `coterie.jsonl`, by which an export is known."""
    return {"coterie": "export", "format": FORMAT, **entries}


def take_back(path: Path) -> None:
    """Undo what an `--overwrite` that was killed left undone: the export before it is back in its place, or gone.

    It is set aside as .OUT.PROCESS.old while the new one takes its place. Only a whole export is touched.
    """
    try:
        beside = [path.with_name(name) for name in os.listdir(path.parent)]
    except OSError:
        return
    for old in beside:
        found = re.fullmatch(rf"\.{re.escape(path.name)}\.(\d+)\.old", old.name)
        if not found or lives(int(found[1])) or old.is_symlink() or not old.is_dir() or _stranger(old) is not None:
            continue
        if os.path.lexists(path):
            shutil.rmtree(old)
        else:
            os.rename(old, path)


@contextmanager
def new_tree(path: Path, head: dict[str, Any], watch: Callable[[], None] = lambda: None) -> Iterator[Tree]:
    """A tree whose folder takes the place `path` when the block ends, whole or not at all.

    Raises InputError where another export is being written there.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    held = _begin(part)
    try:
        tree = Tree(part, head, watch=watch)
        (part / MAP).write_bytes((as_json(tree.head) + "\n").encode())
        yield tree
        tree.finish()
        _sync(part)
        if path.is_dir():
            # With a dot in front: OUT.2026.old is a copy that somebody keeps.
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.rename(path, old)
            os.rename(part, path)
            shutil.rmtree(old)
        else:
            os.rename(part, path)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:  # while a file of the tree was written
            raise not_written(path, error) from error
        raise
    finally:
        _release(held)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file there takes the place `path` when the block ends."""
    remove_parts(path.parent, path.name)
    with replacing(path) as beside:
        yield beside


def _begin(part: Path) -> Lock | None:
    """Make the folder and lock it; one left by a killed export is removed."""
    try:
        part.mkdir()
    except FileExistsError:
        if part.is_symlink() or not part.is_dir() or _stranger(part, whole=False) is not None:
            raise InputError(f"{part} is there and coterie did not write it: move it away.") from None
        _release(_hold(part))
        shutil.rmtree(part)
        part.mkdir()
    except OSError as error:
        raise InputError(f"{part} cannot be made ({error.strerror}): choose another -o.") from error
    return _hold(part)


def _hold(folder: Path) -> Lock | None:
    """Lock the folder; None where there are no locks. Raises InputError where another export writes here."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        return Lock(descriptor)
    except BlockingIOError:
        raise InputError(
            f"Another export is being written to {folder}: wait for its end, or give another -o."
        ) from None
    except (ImportError, OSError):  # Windows; a file system without locks
        return None


def _release(held: Lock | None) -> None:
    if held is not None:
        held.release()


def _stranger(folder: Path, *, whole: bool = True) -> str | None:
    """The first file of a folder that its `coterie.jsonl` does not name, None where coterie wrote all of it.

    No link is followed. Of an export that is not `whole` the first line alone is there.
    """
    try:
        lines = [json.loads(line) for line in read_text(folder / MAP, LARGEST_MAP).rstrip("\n").split("\n")]
    except (InputError, ValueError):
        return next(iter(sorted(os.listdir(folder))), None)
    if not isinstance(lines[0], dict) or lines[0].get("coterie") != "export":
        return MAP
    if not whole:
        return None
    known = {MAP, *(str(line["file"]) for line in lines if isinstance(line, dict) and "file" in line)}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{name}/")
            elif name not in known:
                return name
    return None


def _is_table(path: Path) -> bool:
    """Whether a file is a table that an export wrote: by its mark, or, of text, by its first line."""
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with open(path, "rb") as file:
                return (pq.read_schema(file).metadata or {}).get(b"coterie.table") == b"export"
        except (OSError, pa.ArrowException):
            return False
    with open(path, "rb") as file:
        first = file.readline(1000).rstrip(b"\n")
    return first in HEADS


HEADS = {
    b"id,label,name,confidence,source,decided",
    b"id,label,proposed",
    b"file_path_abs,class_name,confidence,annotation_source",
}


def _sync(folder: Path) -> None:
    """Flush the names in a folder to the disk before the folder is renamed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # file systems that do not know this
        pass
    finally:
        os.close(descriptor)
