"""Each event as a sentence, for the history and for what undo says."""

from __future__ import annotations

from coterie.common.words import apart, capital, counted
from coterie.records import rows as row_texts
from coterie.review.events import (
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
    Open,
    Refit,
    Reject,
    Rename,
    Split,
    Undo,
)
from coterie.review.state import State

SIDE = {
    "single": "",
    "several": "",
    "lasso": ", chosen on the map",
    "range": ", not all looked at",
    "group": ", the whole group",
}


def sentence(event: Event, content: Data, state: State) -> str:
    """What the event did, in the names that groups have now."""
    match content:
        case Open():
            return f"The review began: {content.n:,} items in {counted(content.k, 'group')}."
        case Rename(group=group, name=name):
            return f"Group {group} is called {name}." if name else f"Group {group} has no name any more."
        case Merge(into=into, groups=others):
            return f"{_listed(others)} merged into {_group(into, state)}."
        case Split(group=group, parts=parts):
            made = ", ".join(f"{part.group} ({row_texts.count(part.rows):,})" for part in parts)
            return capital(f"{_group(group, state)} split: {made}.")
        case Move(rows=rows, to=to, how=how):
            return f"{_items(rows)} moved to {_group(to, state)}{SIDE[how]}."
        case Reject(rows=rows, how=how):
            belong = "it belongs" if row_texts.count(rows) == 1 else "they belong"
            return f"{_items(rows)} rejected: {belong} to no group{SIDE[how]}."
        case Approve(group=group, rows=rows, seen=seen):
            looked = f"{row_texts.count(seen):,} looked at, {row_texts.count(rows) - row_texts.count(seen):,} inferred"
            return f"{_items(rows)} approved in {_group(group, state)}: {looked}."
        case Link(a=a, b=b, same=same, groups=groups):
            if groups:
                return f"Groups {a} and {b} are {'the same' if same else 'different'}."
            return f"Rows {a} and {b} belong {'together' if same else 'apart'}."
        case Draw(audit=audit, size=size, max_error=error, level=level):
            claim = f"at most {100 * error:.3g} % wrong, with {100 * level:.3g} % confidence"
            return f"Audit {audit} drawn: {size:,} items, to show {claim}."
        case Judge(audit=audit, row=row):
            return f"Row {row} judged in audit {audit}."  # the answer would be a running score
        case End(audit=audit):
            return f"Audit {audit} ended."
        case Refit(rows=rows):
            return f"The head was trained again: {_items(rows)} changed."
        case Import(rows=rows, kind=kind):
            return f"{_items(rows)} imported from {kind}."
        case Undo(targets=targets):
            back = all(target in state.undone for target in targets)
            what = f"event {targets[0]}" if len(targets) == 1 else f"{len(targets)} events from {min(targets)} on"
            return capital(f"{what} undone." if back else f"{what} was undone, and is done again.")
    return event.type


def _items(rows: str) -> str:
    return counted(row_texts.count(rows), "item")


def _group(number: int, state: State) -> str:
    name = state.groups[number].name if number in state.groups else ""
    return f"{apart(name)} ({number})" if name else f"group {number}"


def _listed(groups: list[int]) -> str:
    if len(groups) == 1:
        return f"Group {groups[0]}"
    return f"Groups {', '.join(map(str, groups[:-1]))} and {groups[-1]}"
