"""What each kind of event does to a state.

Group events act on the members at that point, row events on their rows. The later event wins, but for one rule: a refit
changes only what the model, or a refit before it, has said; an item that a person decided, or that a merge or a split
placed, keeps its group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.records import rows as row_texts
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
)
from coterie.review.state import GROUP, IMPORT, MODEL, PERSON, REFIT, Group, Parts, State, Touched

LOOKED_AT = ("single", "several")


def apply(state: State, event: Event, content: Data) -> Touched:
    """Change the state by an event that is not undone."""
    touched = _EFFECTS[type(content)](state, event, content) if type(content) in _EFFECTS else Touched()
    state.touched[event.seq] = touched
    return touched


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
        rows = row_texts.read(part.rows, len(state.label))
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
    state.columns.append(("split", group, Parts([*parts, (group, rest)] if len(rest) else parts)))
    _void(state, event, "a split")
    return Touched(np.sort(np.concatenate(touched)), frozenset([group]) | made, made=made)


def _decide(state: State, rows: NDArray[np.int64], labels: Any, origin: int, seen: Any) -> None:
    state.label[rows], state.origin[rows], state.decided[rows] = labels, origin, True
    state.seen[rows] = seen


def _move(state: State, event: Event, content: Move) -> Touched:
    rows, to = row_texts.read(content.rows, len(state.label)), state.resolve(content.to)
    _decide(state, rows, to, PERSON, content.how in LOOKED_AT)
    if content.how not in LOOKED_AT:
        _void(state, event, "a move of items that were not looked at one by one")
    return Touched(rows, reads=frozenset([to]))


def _reject(state: State, event: Event, content: Reject) -> Touched:
    rows = row_texts.read(content.rows, len(state.label))
    _decide(state, rows, NOWHERE, PERSON, content.how in LOOKED_AT)
    if content.how not in LOOKED_AT:
        _void(state, event, "a rejection of items that were not looked at one by one")
    return Touched(rows)


def _approve(state: State, event: Event, content: Approve) -> Touched:
    n, group = len(state.label), state.resolve(content.group)
    rows, seen = row_texts.read(content.rows, n), row_texts.read(content.seen, n)
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
    """Turn an ended audit's judgements into labels, but for items that somebody decided since."""
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
    rows = row_texts.read(content.rows, len(state.label))
    labels = np.array([state.resolve(group) for group in content.labels], np.int32)
    open_ones = ~state.decided[rows] & ((state.origin[rows] == MODEL) | (state.origin[rows] == REFIT))
    rows, labels = rows[open_ones], labels[open_ones]
    state.label[rows], state.origin[rows] = labels, REFIT
    state.refits.append(content)
    _void(state, event, "a refit")
    return Touched(rows, reads=frozenset(labels.tolist()))


def _import(state: State, event: Event, content: Import) -> Touched:
    rows = row_texts.read(content.rows, len(state.label))
    labels = np.array([state.resolve(group) for group in content.labels], np.int32)
    _decide(state, rows, labels, IMPORT, True)
    state.imports.append({"sha256": content.sha256, "kind": content.kind, "n": len(rows)})
    _void(state, event, "an import")
    return Touched(rows, reads=frozenset(labels.tolist()) - {NOWHERE})


def _void(state: State, event: Event, why: str) -> None:
    for audit in state.audits.values():
        if audit.voided is None:
            audit.voided = f"{why} (event {event.seq}) came after its sample was drawn"


_EFFECTS: dict[type[Data], Any] = {
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
