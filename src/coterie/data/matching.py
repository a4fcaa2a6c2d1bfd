"""Finds the items of a source by the names that another file has for them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.column_names import listed
from coterie.data.extensions import is_picture
from coterie.data.guards import unguarded
from coterie.types import InputError

AMBIGUOUS = -2
ROOTS = 20  # places to try as the folder that only one side writes

Found = list["int | None"]  # a row, None: there is no such item, AMBIGUOUS: there are several


class Unmatched(InputError):
    """Names that are not those of the source's items; `share` of them are."""

    def __init__(self, text: str, share: float) -> None:
        super().__init__(text)
        self.share = share


def match(keys: Sequence[Any], ids: Sequence[str], skipped: Sequence[str], where: str) -> NDArray[np.int64]:
    """Return the row of every key among the ids; -1 for an item that the source left out. Raises Unmatched.

    A key may be the id itself, or its path written otherwise: absolute, from another folder, its last parts only, with
    "./" or backslashes, without the ending, in other letters' case, a number without its leading zeros. The first of
    these ways in which every key is one item and one only is taken, so that nothing is guessed.
    """
    if len(keys) == 0:
        return np.empty(0, np.int64)
    pool = [*ids, *skipped]
    known = set(pool)
    bare = Counter(item.strip() for item in pool)
    # Tables of text lose the blanks around a name.
    blank = {item.strip(): item for item in pool if item != item.strip() and bare[item.strip()] == 1}
    names = [blank.get(name, name) for name in (_known_text(key, known) for key in keys)]
    empty = next((row for row, name in enumerate(names) if not name), None)
    if empty is not None:
        raise Unmatched(f"{where} does not say which item row {empty + 1} is about: its name is empty.", 0.0)
    best: Found = []
    for way in (_exact, _tidy, _rooted, _tails, _without_ending, _any_case, _numbers):
        found = way(names, pool)
        if all(row is not None and row != AMBIGUOUS for row in found):
            rows = np.array(found, np.int64)
            _check_first_row(names, rows, ids, where)
            return np.where(rows < len(ids), rows, -1)
        if not best or _known(found) > _known(best):
            best = found
    raise _complaint(names, best, pool, where)


def key_text(value: Any) -> str:
    """A key as text: 3.0, which is what becomes of 3 beside an empty cell, is "3"."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    return text.strip().strip("\ufeff").strip().strip("\"'").strip()


def _known_text(value: Any, known: Collection[str]) -> str:
    """The key as text; one that is an id as it stands, or behind the quote that guards it, keeps its own quotes."""
    plain = unguarded(value, known)
    return plain if isinstance(plain, str) and plain in known else key_text(value)


def _check_first_row(names: list[str], rows: NDArray[np.int64], ids: Sequence[str], where: str) -> None:
    """Refuse row numbers from 1 to n: each would match the row after the right one."""
    if len(rows) > 2 and ids[0] == "0" and len(ids) > 1 and ids[1] == "1" and set(names) == _numbered(len(names)):
        raise Unmatched(
            f"{where} numbers the items from 1 to {len(names)}, but the rows of the source begin with 0: write them "
            "from 0.",
            0.0,
        )


def _numbered(count: int) -> set[str]:
    return {str(number) for number in range(1, count + 1)}


def _hits(found: Found) -> int:
    return sum(row is not None and row != AMBIGUOUS for row in found)


def _known(found: Found) -> tuple[int, int]:
    """How many names belong to one item, and how many to at least one."""
    return _hits(found), sum(row is not None for row in found)


def _complaint(names: list[str], found: Found, pool: list[str], where: str) -> Unmatched:
    share = _hits(found) / len(names)
    missing = [name for name, row in zip(names, found, strict=True) if row is None]
    if missing:
        return Unmatched(
            f"{where} names {missing[0][:200]}, which is not in the source ({len(missing)} such ids); "
            f"its ids look like {listed(pool[:1])}.",
            share,
        )
    name = next(name for name, row in zip(names, found, strict=True) if row == AMBIGUOUS)
    wanted = _parts(name)
    same = [item for item in pool if _parts(item)[-1].casefold().startswith(wanted[-1].casefold())][:2]
    return Unmatched(
        f"{where} names {name[:200]}, which may be several items of the source ({' or '.join(same)}): write their "
        "paths as the result table does.",
        share,
    )


def _by(form: Callable[[str], str], names: Sequence[str], pool: Sequence[str]) -> Found:
    """Look names up under a form of them; items that share one cannot be told apart."""
    place: dict[str, int] = {}
    for row, item in enumerate(pool):
        written = form(item)
        place[written] = AMBIGUOUS if written in place else row
    return [place.get(form(name)) for name in names]


def _exact(names: list[str], pool: list[str]) -> Found:
    return _by(lambda name: name, names, pool)


def tidy(name: str) -> str:
    """A path with plain slashes, without "./" and with accents written one way (a Mac takes them apart)."""
    name = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    name = re.sub(r"(?<!^)/+", "/", name)
    return re.sub(r"^(\./)+", "", name)


def _tidy(names: list[str], pool: list[str]) -> Found:
    return _by(tidy, names, pool)


def _parts(name: str) -> list[str]:
    return tidy(name).split("/")


def _rooted(names: list[str], pool: list[str]) -> Found:
    """Names that all have the same folder in front, which the source's ids lack."""
    items = [tidy(item) for item in pool]
    place = {item: row for row, item in enumerate(items)}
    given = [tidy(name) for name in names]
    nothing: Found = [None] * len(names)
    if len(place) < len(items):
        return nothing
    first, found = given[0], []
    cuts = [at for at, letter in enumerate(first) if letter == "/"][-ROOTS:]
    for root in (first[: at + 1] for at in cuts if first[at + 1 :] in place):
        found.append([place.get(name[len(root) :]) if name.startswith(root) else None for name in given])
    whole = [rows for rows in found if None not in rows]
    return whole[0] if len(whole) == 1 else nothing


def _tails(names: list[str], pool: list[str]) -> Found:
    """Names whose last parts are those of one item only."""
    ends: dict[str, int] = {}
    whole: dict[str, int] = {}
    for row, item in enumerate(pool):
        parts = _parts(item)
        whole["/".join(parts)] = row
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            ends[end] = AMBIGUOUS if end in ends else row
    found: Found = []
    for name in names:
        parts = _parts(name)
        shorter = {whole[end] for start in range(1, len(parts)) if (end := "/".join(parts[start:])) in whole}
        longer = ends.get("/".join(parts))
        rows = shorter | ({longer} if longer is not None else set())
        found.append(None if not rows else rows.pop() if len(rows) == 1 else AMBIGUOUS)
    # Two names for one item: they lie in folders that the source does not tell apart.
    taken: dict[int, str] = {}
    for at, (name, its) in enumerate(zip(names, found, strict=True)):
        if its is not None and its >= 0 and taken.setdefault(its, name) != name:
            found[at] = AMBIGUOUS
    return found


def _ending(name: str) -> str:
    ending = PurePosixPath(tidy(name)).suffix
    return ending if ending and is_picture(f"picture{ending}") else ""


def _without_ending(names: list[str], pool: list[str]) -> Found:
    """Names without the ending of their file. A name with another ending is another file's."""
    if any(_ending(name) for name in names):
        return [None] * len(names)
    bare = [tidy(item).removesuffix(_ending(item)) for item in pool]
    if len(set(bare)) < len(bare):
        return _by(lambda name: name, names, bare)
    ways = (way(names, bare) for way in (_tidy, _rooted, _tails))
    return max(ways, key=_hits)


def _any_case(names: list[str], pool: list[str]) -> Found:
    lower, items = [tidy(name).casefold() for name in names], [tidy(item).casefold() for item in pool]
    if len(set(items)) < len(items):
        return _by(lambda name: name, lower, items)
    return max((way(lower, items) for way in (_tidy, _rooted, _tails, _without_ending)), key=_hits)


def _numbers(names: list[str], pool: list[str]) -> Found:
    """Whole numbers, with or without leading zeros: a table program makes 397133 of 000000397133.jpg."""
    number = re.compile(r"0*(\d{1,18})(?:\.0+)?")
    items = [number.fullmatch(PurePosixPath(tidy(item)).name.removesuffix(_ending(item))) for item in pool]
    given = [number.fullmatch(name.removesuffix(_ending(name))) for name in names]
    if not all(items):
        return [None] * len(names)
    values = [str(int(item[1])) for item in items if item]
    found = _by(lambda name: name, [str(int(name[1])) if name else "" for name in given], values)
    for at, (name, row) in enumerate(zip(names, found, strict=True)):
        if row is not None and row >= 0 and _ending(name).lower() not in ("", _ending(pool[row]).lower()):
            found[at] = None
    return found
