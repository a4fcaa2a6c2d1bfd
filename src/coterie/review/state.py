"""The state of a review: a fold over the events that are not undone, from the model's labels. No files, no clock.

The same events give the same state, bit for bit. Group events act on the members at that point, row events on their
rows. The later event wins, but for one rule: a refit changes only what the model, or a refit before it, has said; an
item that a person decided, or that a merge or a split placed, keeps its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.review import rows as row_texts
from coterie.review.audits import AuditState
from coterie.review.events import (
    NOWHERE,
    Approve,
    Data,
    Draw,
    End,
    Event,
    Import,
    Judge,
    Link,
    Merge,
    Move,
    Refit,
    Reject,
    Rename,
    Split,
    Undo,
)

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


@dataclass
class Touched:
    """What an event changed (`rows`, `groups`) and what it stood on (`reads`), for conflicts and for undo."""

    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    groups: frozenset[int] = frozenset()
    reads: frozenset[int] = frozenset()
    made: frozenset[int] = frozenset()

    def collides(self, other: Touched) -> bool:
        """Whether one of both changed what the other changed or stood on."""
        if self.groups & (other.groups | other.reads) or other.groups & self.reads:
            return True
        if not len(self.rows) or not len(other.rows):
            return False
        if self.rows[-1] < other.rows[0] or other.rows[-1] < self.rows[0]:
            return False
        return bool(np.isin(self.rows, other.rows, assume_unique=True).any())


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
    # What becomes of the columns of the probabilities, in order: ("merge", into, [from]) or ("split", group, parts).
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

    def apply(self, event: Event, content: Data) -> Touched:
        """Change the state by an event that is not undone."""
        touched = _APPLY[type(content)](self, event, content) if type(content) in _APPLY else Touched()
        self.touched[event.seq] = touched
        return touched


def beginning(label: NDArray[np.integer], k: int, names: Mapping[int, str] | None = None) -> State:
    """The model's own groups, by the names that it has, nothing decided."""
    n = len(label)
    nothing = np.zeros(n, dtype=bool)
    groups = {number: Group(number, (names or {}).get(number, "")) for number in range(k)}
    return State(label.astype(np.int32), np.zeros(n, np.uint8), nothing, nothing.copy(), groups)


def undone_events(events: Sequence[Logged]) -> set[int]:
    """The numbers of all events that never happened: targets of an undo that is not itself undone."""
    undone: set[int] = set()
    for event, content in reversed(events):
        if isinstance(content, Undo) and event.seq not in undone:
            undone.update(content.targets)
    return undone


def replay(
    events: Iterable[Logged], label: NDArray[np.integer], k: int, names: Mapping[int, str] | None = None
) -> State:
    """Fold the events of a log, its first line included."""
    events = list(events)
    state = beginning(label, k, names)
    state.undone = undone_events(events)
    for event, content in events:
        if isinstance(content, Split):
            # A number that an undone split gave out is used up, too.
            for part in content.parts:
                state.groups.setdefault(part.group, Group(part.group, into=content.group))
        if event.seq not in state.undone:
            state.apply(event, content)
    _remember_undone_audits(state, events)
    return state


def dependents(events: Sequence[Logged], targets: Iterable[int], undone: set[int]) -> set[int]:
    """The events that stand on a group which one of the targets made, and on what those made in turn."""
    gone = set(targets)
    made = {part.group for e, c in events if e.seq in gone and isinstance(c, Split) for part in c.parts}
    found: set[int] = set()
    for event, content in events:
        if event.seq in undone or event.seq in gone or not made:
            continue
        if groups_named(content) & made:
            found.add(event.seq)
            if isinstance(content, Split):
                made |= {part.group for part in content.parts}
    return found


def groups_named(content: Data) -> set[int]:
    """The groups that an event names, but for those that it makes."""
    match content:
        case Rename(group=g) | Approve(group=g) | Split(group=g):
            return {g}
        case Merge(into=into, groups=others):
            return {into, *others}
        case Move(to=to):
            return {to}
        case Refit(labels=labels) | Import(labels=labels):
            return set(labels) - {NOWHERE}
        case Judge(belongs=belongs, shown=shown):
            return {g for g in (belongs, shown) if g is not None and g != NOWHERE}
    return set()


def _rename(state: State, event: Event, content: Rename) -> Touched:
    group = state.resolve(content.group)
    state.groups[group].name = content.name
    return Touched(groups=frozenset([group]))


def _merge(state: State, event: Event, content: Merge) -> Touched:
    into = state.resolve(content.into)
    others = [g for g in dict.fromkeys(map(state.resolve, content.groups)) if g != into]
    inside = np.isin(state.label, others)
    rows = np.flatnonzero(inside)
    state.label[rows] = into
    fresh = inside & ~state.decided
    state.origin[fresh] = GROUP
    for group in others:
        state.groups[group].into = into
    if others:
        state.columns.append(("merge", into, others))
    return Touched(rows, frozenset([into, *others]))


def _split(state: State, event: Event, content: Split) -> Touched:
    group = state.resolve(content.group)
    parts, touched = [], []
    for part in content.parts:
        rows = row_texts.read(part.rows)
        rows = rows[state.label[rows] == group]
        state.groups[part.group] = Group(part.group, parents=(group,))
        parts.append((part.group, rows))
        touched.append(rows)
    for number, rows in parts:
        state.label[rows], state.origin[rows] = number, GROUP
        # "Belongs to the whole" does not say to which part, so what was decided has to be decided again.
        state.decided[rows] = state.seen[rows] = False
    made = frozenset(number for number, _ in parts)
    rest = state.members(group)
    state.columns.append(("split", group, [*parts, (group, rest)] if len(rest) else parts))
    _void(state, event, "a split")
    return Touched(np.sort(np.concatenate(touched)), frozenset([group]) | made, made=made)


def _decide(state: State, rows: NDArray[np.int64], labels: Any, origin: int, seen: Any) -> None:
    state.label[rows], state.origin[rows], state.decided[rows] = labels, origin, True
    state.seen[rows] = seen


def _move(state: State, event: Event, content: Move) -> Touched:
    rows, to = row_texts.read(content.rows), state.resolve(content.to)
    _decide(state, rows, to, PERSON, content.how in ("single", "several"))
    if content.how in ("lasso", "group"):
        _void(state, event, "a move of items that were not looked at one by one")
    return Touched(rows, reads=frozenset([to]))


def _reject(state: State, event: Event, content: Reject) -> Touched:
    rows = row_texts.read(content.rows)
    _decide(state, rows, NOWHERE, PERSON, content.how in ("single", "several"))
    if content.how in ("lasso", "group"):
        _void(state, event, "a rejection of items that were not looked at one by one")
    return Touched(rows)


def _approve(state: State, event: Event, content: Approve) -> Touched:
    rows, seen, group = row_texts.read(content.rows), row_texts.read(content.seen), state.resolve(content.group)
    _decide(state, rows, group, PERSON, np.isin(rows, seen, assume_unique=True))
    return Touched(rows, reads=frozenset([group]))


def _link(state: State, event: Event, content: Link) -> Touched:
    state.links.append(content)
    return Touched()


def _draw(state: State, event: Event, content: Draw) -> Touched:
    state.audits[content.audit] = AuditState(content, event.seq, state.label.copy(), len(state.columns))
    return Touched()


def _judge(state: State, event: Event, content: Judge) -> Touched:
    if content.audit in state.audits:
        state.audits[content.audit].judged[content.row] = content
    return Touched()


def _end(state: State, event: Event, content: End) -> Touched:
    """From here on the judgements are labels, of items that nobody has decided since."""
    audit = state.audits.get(content.audit)
    if audit is None:
        return Touched()
    audit.ended = event.seq
    touched = []
    for row, judgement in audit.counted():
        if state.decided[row]:
            continue
        to = judgement.shown if judgement.answer == "right" else judgement.belongs
        if judgement.answer == "unsure" or to is None:
            continue
        _decide(state, np.array([row]), state.resolve(to), PERSON, True)
        touched.append(row)
    return Touched(np.array(sorted(touched), np.int64))


def _refit(state: State, event: Event, content: Refit) -> Touched:
    rows = row_texts.read(content.rows)
    labels = np.array([state.resolve(group) for group in content.labels], np.int32)
    open_ones = ~state.decided[rows] & ((state.origin[rows] == MODEL) | (state.origin[rows] == REFIT))
    rows, labels = rows[open_ones], labels[open_ones]
    state.label[rows], state.origin[rows] = labels, REFIT
    state.refits.append(content)
    _void(state, event, "a refit")
    return Touched(rows, reads=frozenset(labels.tolist()))


def _import(state: State, event: Event, content: Import) -> Touched:
    rows = row_texts.read(content.rows)
    labels = np.array([state.resolve(group) for group in content.labels], np.int32)
    _decide(state, rows, labels, IMPORT, True)
    state.imports.append({"sha256": content.sha256, "kind": content.kind, "n": len(rows)})
    _void(state, event, "an import")
    return Touched(rows, reads=frozenset(labels.tolist()) - {NOWHERE})


def _void(state: State, event: Event, why: str) -> None:
    for audit in state.audits.values():
        if audit.voided is None:
            audit.voided = f"{why} (event {event.seq}) came after its sample was drawn"


def _remember_undone_audits(state: State, events: Sequence[Logged]) -> None:
    """An audit of which something was judged counts also after its undo: else one could draw until a sample pleases.

    One of which something is undone after its result was seen holds no more.
    """
    of = {e.seq: c.audit for e, c in events if isinstance(c, Draw | Judge | End)}
    ended = {c.audit: e.seq for e, c in reversed(events) if isinstance(c, End)}
    for audit in {c.audit for _, c in events if isinstance(c, Judge)} - state.audits.keys():
        state.audits[audit] = AuditState.discarded(audit)
    for event, content in events:
        if isinstance(content, Undo) and event.seq not in state.undone:
            for audit in {of[target] for target in content.targets if target in of}:
                if audit in ended and event.seq > ended[audit] and state.audits[audit].voided is None:
                    state.audits[audit].voided = "a part of it was undone after its result had been seen"


_APPLY: dict[type[Data], Any] = {
    Rename: _rename,
    Merge: _merge,
    Split: _split,
    Move: _move,
    Reject: _reject,
    Approve: _approve,
    Link: _link,
    Draw: _draw,
    Judge: _judge,
    End: _end,
    Refit: _refit,
    Import: _import,
}
