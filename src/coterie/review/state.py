"""The state of a review: labels, groups and audits as they are after some events. No files, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.review.audits import AuditState
from coterie.review.events import NOWHERE, Data, Event, Link, Refit

MODEL, GROUP, REFIT, PERSON, IMPORT = range(5)
SOURCES = ("model", "group", "refit", "person", "import")
Logged = tuple[Event, Data]


@dataclass
class Group:
    """A group for ever: its number is never used again, also where it has retired into another."""

    number: int
    name: str = ""
    parents: tuple[int, ...] = ()  # the group that it was split from
    into: int | None = None  # the group that took its members


@dataclass(eq=False)
class Parts:
    """The parts of a split: their numbers and members, and `shares`, what `columns` has worked out of them."""

    members: list[tuple[int, NDArray[np.int64]]]
    shares: Any = None


@dataclass
class Touched:
    """What an event changed (`rows`, `groups`) and what it stood on (`reads`), for conflicts and for undo."""

    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    groups: frozenset[int] = frozenset()
    reads: frozenset[int] = frozenset()
    made: frozenset[int] = frozenset()

    def shares_groups(self, other: Touched) -> bool:
        """Whether one of both changed a group that the other changed or stood on."""
        return bool(self.groups & (other.groups | other.reads) or other.groups & self.reads)


@dataclass
class State:
    """Labels and what is known about each of them, (n,) each; groups, links and audits."""

    label: NDArray[np.int32]
    origin: NDArray[np.uint8]  # MODEL to IMPORT
    decided: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    groups: dict[int, Group]
    links: list[Link] = field(default_factory=list)
    audits: dict[int, AuditState] = field(default_factory=dict)
    # What becomes of the columns of the probabilities, in order: ("merge", into, [from]) or ("split", group, Parts).
    columns: list[tuple[str, int, Any]] = field(default_factory=list)
    touched: dict[int, Touched] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)
    imports: list[dict[str, Any]] = field(default_factory=list)
    refits: list[Refit] = field(default_factory=list)

    @property
    def live(self) -> list[int]:
        """The groups that have not retired, in the order of their numbers."""
        return [number for number, group in sorted(self.groups.items()) if group.into is None]

    @property
    def next_group(self) -> int:
        """The first number never used, undone splits included."""
        return max(self.groups, default=-1) + 1

    def resolve(self, group: int) -> int:
        """The group that now holds what went to this one."""
        if group == NOWHERE:
            return group
        while (into := self.groups[group].into) is not None:
            group = into
        return group

    def name(self, group: int) -> str:
        """What a person calls it: its name, or its number."""
        return "nowhere" if group == NOWHERE else self.groups[group].name or f"group {group}"

    def members(self, group: int) -> NDArray[np.int64]:
        """The rows of a group, ascending."""
        return np.flatnonzero(self.label == group)
