"""Shared by all readers of returned labels: the run's ids and names, and the labels that were read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coterie.common.arguments import is_number
from coterie.common.words import counted
from coterie.data.column_names import listed
from coterie.export.formats.labelstudio import nowhere_name
from coterie.export.items import NOWHERE, Items
from coterie.types import InputError

SAME = 1e-6  # confidences that were written and read again

Kind = Literal["labelstudio", "fiftyone", "coco", "csv"]


@dataclass(frozen=True)
class ReadLabels:
    """The labels of a person: rows of the result table and the group of each, -1 for none (m,)."""

    kind: Kind
    rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    notes: list[str] = field(default_factory=list)


@dataclass
class RunIndex:
    """The run's ids and names, in which a file's are looked up; `where` is the file."""

    items: Items
    where: str

    def __post_init__(self) -> None:
        items = self.items
        self.place = {item: at for at, item in enumerate(items.ids)}
        self.groups = {items.names[group]: group for group in items.alive}
        self.groups[nowhere_name(items.names)] = NOWHERE

    def at(self, item: Any) -> int:
        """The place of an id. Raises InputError for one that the run does not have."""
        found = self.place.get(item) if isinstance(item, str) else None
        if found is None:
            raise InputError(f"{self.where} names {str(item)[:200]!r}, which is no id of the run.")
        return found

    def group(self, name: Any, item: str) -> int:
        """The group of this name. Raises InputError for a name that no group has."""
        if not isinstance(name, str) or name not in self.groups:
            raise InputError(
                f"{self.where} says {str(name)[:80]!r} of {item}, and no group of the run is called so; there are "
                f"{listed(self.groups)}."
            )
        return self.groups[name]

    def untouched(self, at: int, group: int, confidence: Any, *, scored: bool) -> bool:
        """Whether a label is the exported one: same group and same confidence, which no person would write.

        scored: whether any label of the file has a confidence. Where the program wrote none, the same group tells
        nobody's judgement.
        """
        same = not scored or (
            is_number(confidence) and abs(float(confidence) - float(self.items.confidence[at])) <= SAME
        )
        return bool(same and group == self.items.label[at])


def once(found: dict[int, int], at: int, group: int, known: RunIndex) -> None:
    """Add what was said of an item. Raises InputError where the file has said something else of it before."""
    if found.setdefault(at, group) != group:
        raise InputError(f"{known.where} says two things of {known.items.ids[at]}: keep one.")


def untouched(count: int, *, scored: bool = True) -> str:
    """The note about items whose labels nobody changed."""
    none = "" if scored else ", as far as can be told of a file without confidences"
    return (
        f"{counted(count, 'item')} came back unchanged{none}, which confirms nothing. The others are corrections and "
        "no random sample: use them for fit --judged, not for the bound of accept --judged."
    )


def back(kind: Kind, found: Mapping[int, int], known: RunIndex, notes: list[str]) -> ReadLabels:
    """The labels that were found, in the order of the rows. Raises InputError where there are none."""
    if not found:
        raise InputError(f"{known.where} holds nothing that a person said: only what had been exported came back.")
    places = np.array(sorted(found), np.int64)
    groups = np.array([found[at] for at in places.tolist()], np.int64)
    return ReadLabels(kind, known.items.rows[places], groups, notes)
