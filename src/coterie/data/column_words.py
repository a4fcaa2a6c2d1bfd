"""Sentences about the columns of a table: which are features, which were held apart, and why none could be chosen."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from coterie.data.column_names import listed
from coterie.types import InputError

Form = Literal["float", "integer", "boolean", "list", "picture", "other"]
NUMBERS: tuple[Form, ...] = ("float", "integer", "boolean")
FAMILY = 3  # columns that differ by a number only, so many of which are one thing: f0, f1, f2


def family_of(name: str) -> str:
    """The common form of names that differ only by a number: "f#" for f0 and f63."""
    return re.sub(r"\d+", "#", name)


def not_plain(where: str, forms: Mapping[str, Form], found: Sequence[str]) -> InputError:
    """The refusal of a table in which several kinds of columns could be the features, with an example of a choice."""
    said = []
    for form in ("picture", "list", *NUMBERS):
        names = [name for name in found if forms[name] == form]
        if names:
            said.append(f"{form} {'columns' if len(names) > 1 else 'column'} {in_runs(names)}")
    families = Counter(family_of(name) for name in found)
    best = next(iter(families.most_common(1)))[0]
    names = [name for name in found if family_of(name) == best]
    if forms[names[0]] in NUMBERS and len(names) < FAMILY:
        names = [name for name in found if forms[name] in NUMBERS][:FAMILY]
        example = ",".join(names)
    else:
        example = f"{names[0]}..{names[-1]}" if len(names) > 1 else names[0]
    return InputError(
        f"It is unclear which columns of {where} are the features: it has {', '.join(said)}. Choose them by "
        f"--columns '{example}' (names, first..last or patterns such as 'f*')."
    )


def in_runs(names: Sequence[str]) -> str:
    """Names for a message, where three or more numbered ones become a range: "f0 to f63 (64), width"."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(family_of(name), []).append(name)
    runs = [run for its in families.values() for run in _unbroken(its)]
    parts = []
    for run in runs:
        count = f" ({len(run)})" if len(runs) > 1 else ""
        parts += [f"{run[0]} to {run[-1]}{count}"] if len(run) >= FAMILY else run
    return listed(parts)


def _unbroken(names: list[str]) -> list[list[str]]:
    """Names of one family, parted where a number is missing: f0 to f3, f6. In equal steps (w400, w405) none is."""
    numbers = [re.findall(r"\d+", name) for name in names]
    if len(numbers[0]) != 1:
        return [names]
    ordered = sorted((int(number), name) for (number,), name in zip(numbers, names, strict=True))
    steps = [after[0] - before[0] for before, after in itertools.pairwise(ordered)]
    names = [name for _, name in ordered]
    ends = [place + 1 for place, step in enumerate(steps) if step != 1] if len({*steps}) > 1 else []
    return [names[first:last] for first, last in itertools.pairwise([0, *ends, len(names)])]


def span(names: Sequence[str]) -> str:
    """Columns as the subject of a sentence."""
    return f"the {len(names)} columns {in_runs(names)}" if len(names) > 1 else f"the column {in_runs(names)}"


def taken(names: Sequence[str]) -> str:
    """Which columns are the features."""
    return f"Features: {f'{len(names)} columns,' if len(names) > 1 else 'column'} {in_runs(names)}."


def held_apart(labels: Sequence[str], index: Sequence[str]) -> list[str]:
    """Which columns are no features because they are labels or pandas' index."""
    notes = []
    if labels:
        notes.append(f"Held apart as labels, for evaluation only: {listed(labels)}.")
    if index:
        notes.append(f"The index of pandas' table is no feature: {listed(index)}.")
    return notes


def left_out(names: Sequence[str]) -> list[str]:
    """Which other columns are no features."""
    return [f"Other columns were left out: {listed(names)}."] if names else []


def in_words(form: Form) -> str:
    """What a column is that holds no plain numbers."""
    return {"list": "a list column", "picture": "a column of pictures"}.get(form, "not numeric")
