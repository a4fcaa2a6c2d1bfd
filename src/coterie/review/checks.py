"""Checks whether an event may be written: the rows and groups that it names exist, and it is possible now."""

from __future__ import annotations

import numpy as np

from coterie.records import rows as row_texts
from coterie.records.group_names import check_given
from coterie.review.events import (
    NOWHERE,
    Approve,
    Data,
    Draw,
    End,
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
from coterie.review.state import State, Touched
from coterie.types import InputError


def check(state: State, content: Data) -> None:
    """Raise InputError for an event that this state cannot take."""
    n = len(state.label)
    match content:
        case Rename(group=group, name=name):
            check_group(state, group)
            if name:
                check_given(group, name, {g: state.groups[g].name for g in state.live})
        case Merge(into=into, groups=others):
            for group in (into, *others):
                check_group(state, group)
            if into in others or len(set(others)) < len(others):
                raise InputError("A merge takes different groups.")
        case Split():
            _check_split(state, content)
        case Move(rows=text, to=to):
            _rows(text, n)
            check_group(state, to)
        case Reject(rows=text):
            _rows(text, n)
        case Approve(group=group, rows=text, seen=seen):
            check_group(state, group)
            if not np.isin(row_texts.read(seen, n), _rows(text, n)).all():
                raise InputError("Rows were looked at that are not among the approved ones.")
        case Link(a=a, b=b, groups=groups):
            if a == b:
                raise InputError("A link takes two different items.")
            if not groups and max(a, b) >= n:
                raise InputError(f"There is no row {max(a, b)}: the run has {n:,} items.")
            if groups:
                check_group(state, a)
                check_group(state, b)
        case Refit(rows=text, labels=labels) | Import(rows=text, labels=labels):
            if len(_rows(text, n)) != len(labels):
                raise InputError("Give one label for each row.")
            for group in set(labels) - {NOWHERE}:
                check_group(state, group)
        case Draw() | Judge() | End():
            _check_audit(state, content)


def _check_split(state: State, content: Split) -> None:
    """Raise InputError unless the parts are new groups of different members of the group."""
    group, parts = content.group, content.parts
    check_group(state, group)
    if [part.group for part in parts] != list(range(state.next_group, state.next_group + len(parts))):
        raise InputError(f"New groups get the next numbers, from {state.next_group} on.")
    whole = np.concatenate([_rows(part.rows, len(state.label)) for part in parts])
    if len(np.unique(whole)) < len(whole):
        raise InputError("An item can go to one part only.")
    if (state.label[whole] != group).any():
        raise InputError(f"A split of group {group} takes members of it alone.")
    if len(parts) == 1 and len(whole) == len(state.members(group)):
        raise InputError(f"These are all members of group {group}: there is nothing to part.")


def _check_audit(state: State, content: Draw | Judge | End) -> None:
    """Raise InputError for what an audit cannot take now: one at a time, its sample in order, before its end."""
    if isinstance(content, Draw):
        waiting = [number for number, audit in state.audits.items() if audit.ended is None and not audit.voided]
        if waiting:
            raise InputError(f"Audit {waiting[0]} has not ended: judge its sample, or end it.")
        if content.audit != max(state.audits, default=0) + 1:
            raise InputError(f"The next audit is number {max(state.audits, default=0) + 1}.")
        items = int((state.label >= 0).sum())
        if content.size > items:
            raise InputError(f"{content.size} items cannot be drawn: {items:,} have a group.")
        return
    audit = state.audits.get(content.audit)
    if audit is None or audit.seq < 0:
        raise InputError(f"There is no audit {content.audit}.")
    if audit.ended is not None:
        raise InputError(f"Audit {content.audit} has ended: its judgements stand.")
    if isinstance(content, End):
        if not audit.next_place:
            raise InputError("Nothing has been judged yet.")
        return
    place = np.flatnonzero(audit.sample == content.row)
    if not len(place) or place[0] > audit.next_place:
        raise InputError(f"Row {content.row} is not the next of the sample.")
    if content.shown != audit.labels[content.row]:
        raise InputError(f"Row {content.row} was in group {audit.labels[content.row]} when the sample was drawn.")
    if content.belongs is not None and content.belongs != NOWHERE:
        check_group(state, content.belongs)


def reach(state: State, content: Data) -> Touched:
    """The rows and groups that an event would change or depends on, to find conflicts. Nothing is changed."""
    nothing, n = np.empty(0, np.int64), len(state.label)
    match content:
        case Rename(group=group):
            return Touched(nothing, frozenset([group]))
        case Merge(into=into, groups=others):
            rows = np.flatnonzero(np.isin(state.label, others))
            return Touched(rows, frozenset([into, *others]))
        case Split(group=group, parts=parts):
            rows = np.sort(np.concatenate([row_texts.read(part.rows, n) for part in parts]))
            return Touched(rows, frozenset([group]))
        case Move(rows=text, to=to):
            return Touched(row_texts.read(text, n), reads=frozenset([to]))
        case Reject(rows=text):
            return Touched(row_texts.read(text, n))
        case Approve(rows=text, group=group):
            return Touched(row_texts.read(text, n), reads=frozenset([group]))
        case Refit(rows=text, labels=labels) | Import(rows=text, labels=labels):
            return Touched(row_texts.read(text, n), reads=frozenset(labels) - {NOWHERE})
    return Touched()


def check_group(state: State, group: int) -> None:
    """Raise InputError for a number that is no group, or no longer one."""
    if group not in state.groups:
        raise InputError(f"There is no group {group}.")
    into = state.groups[group].into
    if into is not None:
        raise InputError(f"Group {group} went into group {state.resolve(group)}: take that one.")


def _rows(text: str, n: int) -> np.ndarray:
    rows = row_texts.read(text, n)
    if not len(rows):
        raise InputError("No item is chosen.")
    return rows
