"""Which columns of a table are the features: only where it is plain, or as the user says (`--columns`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import blocks
from coterie.data.column_names import (
    are_values,
    is_index,
    is_label,
    is_output,
    like_label,
    listed,
    names_items,
    no_names,
    quoted,
)
from coterie.data.column_words import (
    FAMILY,
    NUMBERS,
    Form,
    family_of,
    held_apart,
    in_words,
    left_out,
    not_plain,
    span,
    taken,
)
from coterie.types import InputError, ItemSpec

ID_COLUMNS = ("id", "path")
CLASSES = 200  # as many as codes of classes go up to


@dataclass
class FeatureColumns:
    """The columns to take, in this order, and notes on them and on those left out."""

    names: list[str]
    form: Literal["numbers", "list", "picture"]
    notes: list[str] = field(default_factory=list)
    chosen: bool = False  # by the user, so that a table may hold others


@dataclass(frozen=True)
class Table:
    """What is known of a table's columns: their forms in the order of the file, and which pandas calls its index."""

    where: str
    forms: Mapping[str, Form]
    index: Sequence[str] = ()

    def of(self, *forms: Form) -> list[str]:
        return [name for name, form in self.forms.items() if form in forms]

    @property
    def numbers(self) -> list[str]:
        """Numeric columns that may be features by what they are called."""
        known = {*self.labels, *self.ids, *self.index}
        return [name for name in self.of(*NUMBERS) if name not in known and name.strip().casefold() != "split"]

    @property
    def labels(self) -> list[str]:
        """Columns that are called as labels are. A y beside an x is a coordinate, maybe."""
        plane = {name.strip().casefold() for name in self.forms} >= {"x", "y"}
        return [name for name in self.forms if is_label(name) and not (plane and name.strip().casefold() == "y")]

    @property
    def ids(self) -> list[str]:
        return [name for name in self.forms if name.strip().casefold() in ID_COLUMNS]


def choose(table: Table, asked: str | Sequence[str] | None, like: ItemSpec | None) -> FeatureColumns:
    """Decide which columns are the features. Raises InputError, one sentence with what was found and how to choose."""
    if asked is not None:
        return _asked(table, asked)
    if like is not None and like.kind == "embeddings" and like.columns:
        return _as_fitted(table, like)
    # Pictures come first for a model that embeds them, too.
    return _plain(table, None if like is None or like.encoding is not None else like.kind)


def select(names: Sequence[str], asked: str | Sequence[str], where: str) -> list[str]:
    """The columns that the user asks for: names, patterns with * or ?, and ranges first..last in the order of the file.

    A text holds several, parted by commas. A pattern passes over what may be a label by its name, and over ids.
    Raises InputError for a name that is no column.
    """
    taken: dict[str, None] = {}
    for wanted in [part.strip() for part in asked.split(",")] if isinstance(asked, str) else list(asked):
        first, dots, last = wanted.partition("..")
        if wanted in names:
            found = [wanted]
        elif dots and first in names and last in names:
            found = list(names[names.index(first) : names.index(last) + 1])
        else:
            ours = [name for name in names if fnmatchcase(name, wanted)] if re.search(r"[*?\[]", wanted) else []
            found = [name for name in ours if not like_label(name) and name.strip().casefold() not in ID_COLUMNS]
        if not found:
            raise InputError(f"{where} has no column {wanted!r} to take as a feature; it has {listed(names)}.")
        taken |= dict.fromkeys(found)
    if not taken:
        raise InputError(f"No columns are named; {where} has {listed(names)}.")
    return list(taken)


def _asked(table: Table, asked: str | Sequence[str]) -> FeatureColumns:
    """The columns that the user named. Raises InputError for one that holds no features."""
    names = select(list(table.forms), asked, table.where)
    forms = {table.forms[name] for name in names}
    if len(names) == 1 and forms == {"list"}:
        return FeatureColumns(names, "list", [f"Features: column {quoted(names[0])}, as asked for."], chosen=True)
    if len(names) == 1 and forms == {"picture"}:
        return FeatureColumns(names, "picture", [f"Pictures: column {quoted(names[0])}, as asked for."], chosen=True)
    wrong = [name for name in names if table.forms[name] not in NUMBERS]
    if wrong:
        raise InputError(
            f"Column {wrong[0]} of {table.where} is {in_words(table.forms[wrong[0]])}, so it is no feature beside "
            "others: choose columns of numbers, or one list column."
        )
    return FeatureColumns(names, "numbers", [taken(names)], chosen=True)


def _plain(table: Table, kind: str | None) -> FeatureColumns:
    """The features of a table where the user named none: pictures, one list column, or numbers of one kind.

    Raises InputError where several kinds could be meant.
    """
    pictures, lists = table.of("picture"), [name for name in table.of("list") if not is_label(name)]
    if pictures and kind != "embeddings":
        if len(pictures) > 1 and "image" not in pictures:
            raise not_plain(table.where, table.forms, pictures)
        name = "image" if "image" in pictures else pictures[0]
        others = [other for other in (*pictures, *lists) if other != name]
        notes = [f"Pictures: column {quoted(name)}."] if name != "image" or others else []
        return FeatureColumns([name], "picture", notes + left_out(others))
    if len(lists) > 1:
        raise not_plain(table.where, table.forms, lists)
    if lists:
        others = [name for name in table.of(*NUMBERS) if name not in (*table.labels, *table.ids)]
        return FeatureColumns(
            lists,
            "list",
            [f"Features: column {quoted(lists[0])}.", *held_apart(table.labels, table.index), *left_out(others)],
        )
    names = table.numbers
    if not names:
        empty = ", and image holds no bytes of pictures" if table.forms.get("image") == "other" else ""
        raise InputError(
            f"{table.where} has neither a column of images (image) nor of embeddings (a list column), nor numeric "
            f"columns that are features; it has {listed(table.forms)}{empty}."
        )
    if are_values(names):
        raise no_names(table.where, names)
    if not _alike(table, names):
        raise not_plain(table.where, table.forms, names)
    others = [name for name in table.forms if name not in (*names, *table.labels, *table.ids, *table.index)]
    families = Counter(map(family_of, names))
    texts = [name for name in others if "#" in family_of(name) and families[family_of(name)] >= FAMILY]
    if texts:
        raise InputError(
            f"Column {texts[0]} of {table.where} holds no numbers, but is called as the {len(names)} features are: "
            f"write its values as numbers, or choose columns by --columns."
        )
    notes = [taken(names), *held_apart(table.labels, table.index)]
    if others:
        notes.append(f"Columns that are not numbers were left out: {listed(others)}.")
    return FeatureColumns(names, "numbers", notes)


def _as_fitted(table: Table, like: ItemSpec) -> FeatureColumns:
    """The columns that the model was fitted on, by name and in its order."""
    wanted = list(like.columns)
    if len(wanted) == 1 and (like.dim != 1 or table.forms.get(wanted[0]) == "list"):
        if table.forms.get(wanted[0]) == "list":
            return FeatureColumns(wanted, "list", [f"Features: column {quoted(wanted[0])}."], like.chosen)
        found = _plain(table, like.kind)
        found.notes.append(f"The model was fitted on a list column {quoted(wanted[0])}, which {table.where} has not.")
        return found
    missing = [name for name in wanted if name not in table.forms]
    if len(missing) == len(wanted) and len(table.of("list")) == 1:
        found = _plain(table, like.kind)
        found.notes.append(f"The model was fitted on {span(wanted)}; a list column has no names to compare with them.")
        return found
    if missing:
        raise InputError(
            f"{table.where} lacks {len(missing)} of the {len(wanted)} columns that the model was fitted on "
            f"({listed(missing, 5)}); it has {listed(table.forms, 8)}."
        )
    wrong = [name for name in wanted if table.forms[name] not in NUMBERS]
    if wrong:
        raise InputError(
            f"Column {wrong[0]} of {table.where} is {in_words(table.forms[wrong[0]])}, but the model takes numbers."
        )
    extra = [name for name in table.numbers if name not in wanted]
    if extra and not like.chosen:
        raise InputError(
            f"{table.where} has columns that the model was not fitted on ({listed(extra, 5)}): leave them out of the "
            f"table; the model takes {span(wanted)}."
        )
    notes = [taken(wanted)]
    if [name for name in table.forms if name in wanted] != wanted:
        notes.append("The columns stand in another order than at fit and were matched by name.")
    return FeatureColumns(wanted, "numbers", notes + left_out(extra), like.chosen)


def _alike(table: Table, names: Sequence[str]) -> bool:
    """Whether numeric columns are plainly of one kind: all float, or numbered (f0, f1 ...)."""
    if any(like_label(name) or is_index(name) or names_items(name) for name in names):
        return False
    if any(map(is_output, names)) and not all(map(is_output, names)):
        return False
    families = Counter(map(family_of, names))
    numbered = {family for family, count in families.items() if "#" in family and count >= FAMILY}
    strays = [name for name in names if family_of(name) not in numbered]
    if not strays or (len(families) == 1 and "#" in next(iter(families))):
        return True
    # 64 numbered columns and a "quality" are not of one kind, four measured lengths are.
    return all(table.forms[name] == "float" for name in names) and 2 * len(strays) >= len(names)


def check_values(values: NDArray[Any], names: Sequence[str], where: str) -> None:
    """Raise InputError for a column (n,) of codes among measured numbers (`codes_among`).

    Whole numbers in the type of the others pass `_alike`.
    """
    numbered = len({*map(family_of, names)}) == 1
    found = codes_among(values, numbered=numbered)
    if found is None:
        return
    place, what = found
    others = [name for at, name in enumerate(names) if at != place]
    example = f"{others[0]}..{others[-1]}" if place in (0, len(names) - 1) else ",".join(others)
    raise InputError(
        f"It is unclear which columns of {where} are the features: {names[place]} has only {what}, and the others do "
        f"not. Choose them by --columns '{example}' (names, first..last or patterns such as 'f*')."
    )


def codes_among(values: NDArray[Any], *, numbered: bool) -> tuple[int, str] | None:
    """The one column of (n, d) that holds codes among measured numbers, and how to say it: 0, 1, 2 or -1, 1 as classes
    have, or the numbers of the rows. Where several columns have whole numbers, counts may be meant.

    `numbered`: the columns are one family, or have no names, so that only the first or the last one may be another.
    """
    last = values.shape[1] - 1
    if last + 1 < FAMILY:
        return None
    whole = np.arange(last + 1)
    for _, rows in blocks(values):
        its = rows[:, whole]
        whole = whole[(np.isfinite(its) & (its == np.rint(its))).all(0)]
        if numbered and not {0, last} & {*whole.tolist()}:
            return None
    if len(whole) != 1:
        return None
    place = int(whole[0])
    codes = np.unique(np.concatenate([rows[:, place] for _, rows in blocks(values)]))
    low, high, n = int(codes[0]), int(codes[-1]), len(values)
    in_order = low in (0, 1) and high - low + 1 == len(codes)
    signs = codes.tolist() == [-1, 1]
    if not (in_order or signs) or not (1 < len(codes) <= min(CLASSES, n // 3) or len(codes) == n):
        return None
    what = "numbers of the rows" if len(codes) == n else "labels"
    return place, f"the whole numbers {low} {'and' if signs else 'to'} {high}, as {what} have"
