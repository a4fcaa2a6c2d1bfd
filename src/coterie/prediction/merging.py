"""Groups of a fitted model merged and named: columns are added, numbers stay, the likeliest group is the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from coterie.records.group_names import check_given, checked_names
from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.prediction.model import Model
    from coterie.prediction.results import ResultTable

Rows = TypeVar("Rows")  # probabilities (n, k), of NumPy or torch
FEWEST = 2


def merge_columns(p: Rows, merges: Iterable[tuple[int, int]]) -> Rows:
    """Probabilities (n, k) in which each merged group's column is added to its survivor's and left 0.

    In this order one addition after the other, so that NumPy and torch give the same bits. (0.3, 0.3, 0.4) with 1
    merged into 0 is (0.6, 0, 0.4).
    """
    merges = list(merges)
    if not merges:
        return p
    whole: Any = p
    whole = whole.copy() if isinstance(whole, np.ndarray) else whole.clone()
    for group, into in merges:
        whole[:, into] += whole[:, group]
        whole[:, group] = 0
    found: Rows = whole
    return found


def new_merges(model: Model, lists: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Lists of groups as merges (group, survivor): the first group of a list survives. Raises InputError."""
    if not isinstance(lists, list | tuple) or not all(isinstance(groups, list | tuple) for groups in lists):
        raise InputError("merge_groups takes lists of groups, such as [[2, 7]]: 7 is merged into 2.")
    gone, seen, found = {group for group, _ in model.merges}, set[int](), []
    for groups in lists:
        if len(groups) < FEWEST:
            raise InputError(f"merge_groups was given {list(groups)}: it takes at least two groups, such as [2, 7].")
        numbers = [_group(group, model) for group in groups]
        for group in numbers:
            if group in gone:
                raise InputError(f"Group {group} was merged into another and is no more.")
            if group in seen:
                raise InputError(f"Group {group} is named twice: a group is merged once.")
            seen.add(group)
        found += [(group, numbers[0]) for group in numbers[1:]]
    if model.k - len(gone) - len(found) < FEWEST:
        raise InputError("At least two groups must be left: merge fewer.")
    return found


def new_names(model: Model, names: Mapping[int, str]) -> dict[int, str]:
    """The model's names with these added; "" removes a name. Raises InputError for an invalid name."""
    if not isinstance(names, Mapping):
        raise InputError("rename takes a mapping from groups to names, such as {3: 'tabby cat'}.")
    found = dict(model.names)
    for group, name in names.items():
        number = _group(group, model)
        if number in {gone for gone, _ in model.merges}:
            raise InputError(f"Group {number} was merged into another and is no more.")
        found.pop(number, None)
        if name != "":
            found[number] = name
    found = checked_names(found)
    for group in names:
        if group in found:
            check_given(group, found[group], found)
    return dict(sorted(found.items()))


def merged_result(result: ResultTable, merges: list[tuple[int, int]]) -> tuple[ResultTable, int]:
    """The result with merged columns, labels and confidences again the likeliest group's; and how many outsiders moved.

    An outsider is an item of no merged group that now is likelier in one: (0.35, 0.3, 0.35) becomes (0.65, 0, 0.35).
    """
    from coterie.prediction.results import ResultTable

    heads = {name: merge_columns(p, merges) for name, p in result.heads.items()}
    answer = next(iter(heads.values()))
    labels = answer.argmax(axis=1).astype(result.labels.dtype)
    expected = result.labels.copy()
    for group, into in merges:
        expected[expected == group] = into
    confidence = np.take_along_axis(answer, labels[:, None].astype(np.int64), axis=1)[:, 0]
    found = ResultTable(result.ids, labels, confidence, heads, result.embedding, result.ood_score)
    return found, int((labels != expected).sum())


def _group(group: Any, model: Model) -> int:
    if isinstance(group, bool) or not isinstance(group, int | np.integer) or not 0 <= group < model.k:
        raise InputError(f"{repr(group)[:40]} is no group: they are 0 to {model.k - 1}.")
    return int(group)
