"""Reading files that anyone may have written: regular files only, of bounded size, in UTF-8, of bounded depth."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from coterie.types import InputError

Model = TypeVar("Model", bound=BaseModel)

DEEPEST = 40  # of nested lists and mappings; a run's own have six levels
MOST_NODES = 2_000_000  # of a YAML file, aliases written out

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> int:
    """A descriptor of a regular file, also behind a link. Anything else, such as a pipe, is an InputError at once."""
    try:
        # Without O_NONBLOCK a named pipe would keep us until somebody writes into it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((name for test, name in KINDS if test(mode)), "something else")
        raise InputError(f"{path} is {kind}, where a file should be: remove it.")
    return descriptor


def check_regular(path: Path) -> None:
    """Raise InputError for what is no regular file or may not be read."""
    os.close(open_regular(path))


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """A path to the file in valid UTF-8: some libraries open no other. The path itself where it is valid."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        descriptor = open_regular(path)
        try:
            yield Path(f"/dev/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        yield path


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises InputError."""
    try:
        with open(open_regular(path), "rb") as file:
            # No more than there is: Python makes room for all that is asked for.
            content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if len(content) > most:
        raise InputError(f"{path} is larger than {most >> 20} MiB, which no such file of a run is: it is damaged.")
    return content


def read_text(path: Path, most: int) -> str:
    """The same, as UTF-8. Raises InputError for other encodings."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not in UTF-8 (byte {error.start + 1}): save it in that encoding, or run again."
        ) from error


def parse_yaml(text: str, where: str) -> Any:
    """Plain values of YAML: no tags, dates as they are written, depth and aliases bounded.

    `where` names it in the message. Raises InputError for what is no YAML.
    """
    import yaml

    # libyaml does not take the escapes by which a name that is no UTF-8 is written; Python's parser does.
    fast = yaml.__with_libyaml__ and not re.search(r"\\(u|U0000)[dD][89a-fA-F]", text)
    base: Any = yaml.CSafeLoader if fast else yaml.SafeLoader

    class Loader(base):
        """Without dates: nothing in a run is one, and a name such as 2024-01-01 is a name."""

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":timestamp", ":value"))]
            for first, known in base.yaml_implicit_resolvers.items()
        }

    try:
        _check_nesting(yaml.parse(text, Loader))
        return yaml.load(text, Loader)
    except InputError as error:
        raise InputError(f"{where} is no YAML that can be used: {error}") from None
    except Exception as error:  # of PyYAML's constructors some raise AttributeError or IndexError
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        raise InputError(f"{where} is no YAML ({line}{reason[:200]}).") from error


def yaml_of(value: Any) -> str:
    """Plain values as YAML that `parse_yaml` reads, keys in their order."""
    import yaml

    # libyaml writes four times as fast; it fails at half a character, and writes others as escapes that Python shows.
    plain = json.dumps(value, ensure_ascii=False, default=str)
    dumper: Any = yaml.CSafeDumper if yaml.__with_libyaml__ and plain.isascii() else yaml.SafeDumper
    shown = "\x85" not in plain  # a line end that Python's would write as it is, and read as a blank
    text: str = yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=shown, width=120)
    return text


def _check_nesting(events: Any) -> None:
    """Raise InputError for YAML too deep or, with its aliases written out, too large; done before a value is made."""
    import yaml

    sizes: dict[str, tuple[int, int]] = {}  # of finished anchors: nodes and depth
    open_nodes: list[list[Any]] = [["", 0, 0]]  # anchor, nodes, depth of what is inside
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise InputError(f"the alias *{event.anchor} holds itself or stands before its anchor.")
            nodes, depth = sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            nodes, depth = 1, 0
            if event.anchor:
                sizes[event.anchor] = nodes, depth
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1, 0])
            if len(open_nodes) > DEEPEST + 1:
                raise InputError(f"its entries are nested more than {DEEPEST} deep.")
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, nodes, inside = open_nodes.pop()
            depth = inside + 1
            if anchor:
                sizes[anchor] = nodes, depth
        else:
            continue
        above = open_nodes[-1]
        above[1] += nodes
        above[2] = max(above[2], depth)
        if above[1] > MOST_NODES:
            raise InputError(f"it has more than {MOST_NODES:,} entries, its aliases written out.")
        if len(open_nodes) - 1 + depth > DEEPEST:
            raise InputError(f"its entries are nested more than {DEEPEST} deep.")


def read_json(path: Path, most: int) -> Any:
    """Plain values of a JSON file of bounded size and depth. Raises InputError."""
    text = read_text(path, most)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it is no JSON ({error}).") from error
    check_plain(content, str(path))
    return content


def is_there(path: Path) -> bool:
    """Whether there is anything by that name, a link that leads nowhere included. Raises OSError without rights."""
    return path.exists() or path.is_symlink()


def read_entries(kind: type[BaseModel], path: Path, most: int) -> Any:
    """The content of a JSON file of at most so many bytes, as it is written; None without a file. Raises InputError."""
    if not is_there(path):
        return None
    with derived(path):
        content = read_json(path, most)
        validated(kind, content, str(path))
    return content


@contextmanager
def derived(path: Path) -> Iterator[None]:
    """Within the block an InputError of a damaged file says that it may go: a command can write it again."""
    try:
        yield
    except InputError as error:
        if not str(error).startswith(f"{path} is damaged: "):
            raise
        raise InputError(f"{str(error).rstrip('.')}: delete it, and give the command again that writes it.") from error


def check_plain(content: Any, where: str) -> None:
    """Raise InputError unless mappings have texts as names and nothing but plain values, at most so deep.

    A text that cannot be written as UTF-8 is taken only with the marks of a file name that is none (PEP 383).
    """
    waiting: list[tuple[Any, str, int]] = [(content, "", 0)]
    while waiting:
        value, place, depth = waiting.pop()
        if depth > DEEPEST:
            raise InputError(f"{where} is damaged: its entries are nested more than {DEEPEST} deep.")
        if isinstance(value, dict):
            for name, inner in value.items():
                if not isinstance(name, str):
                    raise InputError(f"{where} is damaged: {_shown(place)} has {name!r} for a name, which is no text.")
                waiting.append((name, f"{place}.{name}" if place else name, depth + 1))
                waiting.append((inner, f"{place}.{name}" if place else name, depth + 1))
        elif isinstance(value, list):
            waiting += [(inner, f"{place}.{i}", depth + 1) for i, inner in enumerate(value)]
        elif isinstance(value, str):
            try:
                value.encode("utf-8", "surrogateescape") if not value.isascii() else None
            except UnicodeEncodeError:
                raise InputError(f"{where} is damaged: {_shown(place)} holds half a character.") from None
        elif not (value is None or isinstance(value, bool | int | float)):
            raise InputError(f"{where} is damaged: {_shown(place)} is a {type(value).__name__}.")


def validated(kind: type[Model], content: Any, where: str) -> Model:
    """`content` checked against this schema. Raises InputError with the file, the entry, and what is wrong with it."""
    if not isinstance(content, dict):
        raise InputError(f"{where} is damaged: it is no mapping of entries, so it says nothing of a run.")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        if any(one["type"] == "string_unicode" for one in error.errors(include_url=False)) and content != (
            readable := _readable(content)
        ):
            return validated(kind, readable, where)
        first = error.errors(include_url=False)[0]
        place = _place(first["loc"], content)
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        if first["type"] == "missing":
            raise InputError(f"{where} is damaged: {_shown(place)} is missing.") from error
        shown = repr(first["input"])
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        entry = f"{_shown(place)} cannot be {shown}: " if place else ""
        raise InputError(f"{where} is damaged: {entry}{reason}.") from error


def _place(parts: Sequence[str | int], content: Any) -> str:
    """The entry's name, without what pydantic calls the forms that an entry may have ("constrained-int")."""
    named: list[str] = []
    for at, part in enumerate(parts):
        there = part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int)
        if there:
            content = content[part]
        if there or (at + 1 == len(parts) and isinstance(content, dict)):
            named.append(str(part))
    return ".".join(named)


def _readable(value: Any) -> Any:
    """The same, with marks in the place of the bytes of file names that are no UTF-8, which pydantic does not take."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_readable(name): _readable(inner) for name, inner in value.items()}
    return [_readable(inner) for inner in value] if isinstance(value, list) else value


def _shown(place: str) -> str:
    return place[:200] or "it"
