"""From a log to a state: a fold over the events that are not undone, from the model's labels.

The same events give the same state, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from coterie.review.audits import AuditState
from coterie.review.effects import apply
from coterie.review.events import (
    NOWHERE,
    Approve,
    Data,
    Draw,
    End,
    Import,
    Judge,
    Merge,
    Move,
    Refit,
    Rename,
    Split,
    Undo,
)
from coterie.review.state import Group, Logged, State
from coterie.types import InputError


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
    """Fold the events of a log, its first line included.

    Raises InputError for an event about a group or an item that the run does not have.
    """
    events = list(events)
    state = beginning(label, k, names)
    state.undone = undone_events(events)
    for event, content in events:
        if isinstance(content, Split):
            # A number that an undone split gave out is used up, too.
            for part in content.parts:
                state.groups.setdefault(part.group, Group(part.group, into=content.group))
        if event.seq not in state.undone:
            try:
                apply(state, event, content)
            except (KeyError, IndexError, InputError) as error:
                raise InputError(
                    f"Line {event.seq + 1} of review/log.jsonl names a group or an item that the run does not have: "
                    "put back a copy, or cut the file before it."
                ) from error
    _remember_undone_audits(state, events)
    return state


def dependents(events: Sequence[Logged], targets: Iterable[int], undone: set[int]) -> set[int]:
    """The events that need a group which one of the targets made, and those that need what these made, and so on."""
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
    """The groups that an event names, without those that it makes."""
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
