"""Undo: which decision is the last, what stands on one, and the state after it, tried before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coterie.review.base import Base
from coterie.review.checks import reach
from coterie.review.events import Draw, End, Event, Judge, Undo
from coterie.review.fold import dependents, replay, undone_events
from coterie.review.state import Logged, State, Touched
from coterie.types import InputError


class NeedsMore(InputError):
    """Other events stand on what is to be undone, and have to be undone with it."""

    def __init__(self, events: list[Event]) -> None:
        some = ", ".join(f"{event.seq} ({event.type})" for event in events[:8])
        super().__init__(f"Other decisions stand on this: event {some}; undo them with it.")
        self.events = events


def last_decision(events: Sequence[Logged], state: State) -> int | None:
    """The last event that is neither undone nor an undo, nor a part of an audit that has ended."""
    for event, content in reversed(events[1:]):
        if event.seq in state.undone or event.type == "undo":
            continue
        if isinstance(content, Draw | Judge | End) and state.audits[content.audit].ended is not None:
            continue
        return event.seq
    return None


def last_undo(events: Sequence[Logged], state: State) -> int | None:
    """The last undo of decisions that stands, if no decision came after it."""
    for event, content in reversed(events[1:]):
        if event.seq in state.undone:
            continue
        if not isinstance(content, Undo):
            return None
        if not any(events[target][0].type == "undo" for target in content.targets):
            return event.seq
    return None


def reach_of_undo(content: Undo, events: Sequence[Logged], touched: Mapping[int, Touched], state: State) -> Touched:
    """What an undo would change: what its targets changed."""
    parts = []
    for target in content.targets:
        if 0 < target < len(events):
            known = touched.get(target)
            parts.append(known if known is not None else reach(state, events[target][1]))
    rows = [part.rows for part in parts if len(part.rows)]
    return Touched(
        np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64),
        frozenset().union(*(part.groups for part in parts)),
        frozenset().union(*(part.reads for part in parts)),
    )


def tried(base: Base, events: Sequence[Logged], state: State, event: Event, content: Undo) -> State:
    """The state after an undo. Raises InputError for one that cannot be, NeedsMore where others stand on it."""
    targets = set(content.targets)
    for target in content.targets:
        if not 0 < target < len(events):
            raise InputError(f"There is no event {target} to undo.")
        if target in state.undone:
            raise InputError(f"Event {target} is undone already.")
    if len(targets) < len(content.targets):
        raise InputError("An event is named twice.")
    # As if written: what was an undo's target happens again.
    after = [*events, (event, content)]
    gone = undone_events(after)
    more = sorted(dependents(after, gone - state.undone, gone) - targets)
    if more:
        raise NeedsMore([events[seq][0] for seq in more])
    trial = replay(after, base.labels, base.k, base.names)
    names = [trial.groups[g].name.casefold() for g in trial.live if trial.groups[g].name]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Two groups would be called {twice}: rename one of them first.")
    return trial
