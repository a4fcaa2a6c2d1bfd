"""The fold against a slow twin: plain lists, one item at a time, undo by its definition."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coterie.records import rows as row_texts
from coterie.review.checks import check
from coterie.review.events import Event, content_of, plain
from coterie.review.fold import replay
from coterie.review.state import SOURCES, State
from coterie.types import InputError

N, K = 12, 4
LABELS = np.arange(N) % K

some_rows = st.sets(st.integers(0, N - 1), min_size=1, max_size=5)
group = st.integers(0, K + 4)
how = st.sampled_from(["single", "several", "lasso", "group"])
step = st.one_of(
    st.tuples(st.just("rename"), group, st.sampled_from(["a", "b", ""])),
    st.tuples(st.just("merge"), group, group),
    st.tuples(st.just("split"), group, st.integers(1, 3)),
    st.tuples(st.just("move"), some_rows, group, how),
    st.tuples(st.just("reject"), some_rows, how),
    st.tuples(st.just("approve"), some_rows, group),
    st.tuples(st.just("refit"), some_rows, group),
    st.tuples(st.just("import"), some_rows, st.integers(-1, K + 4)),
    st.tuples(st.just("undo"), st.integers(1, 20)),
)


def data_of(chosen: tuple[Any, ...], state: State) -> dict[str, Any]:
    kind, first, *rest = chosen
    if kind == "rename":
        return {"group": first, "name": rest[0]}
    if kind == "merge":
        return {"into": first, "from": rest}
    if kind == "split":
        members = state.members(first)
        part = {"group": state.next_group, "rows": row_texts.written(members[: rest[0]])}
        return {"group": first, "parts": [part], "how": {}}
    if kind == "undo":
        return {"targets": [first]}
    text = row_texts.written(first)
    if kind == "reject":
        return {"rows": text, "how": rest[0]}
    if kind == "refit":
        return {"sha256": "0" * 64, "settings": {}, "rows": text, "labels": [rest[0]] * len(first)}
    if kind == "import":
        return {"sha256": "0" * 64, "kind": "csv", "rows": text, "labels": [rest[0]] * len(first)}
    if kind == "approve":
        return {"rows": text, "group": rest[0], "seen": row_texts.written(sorted(first)[::2])}
    return {"rows": text, "to": rest[0], "how": rest[1]}


def write_log(steps: list[tuple[Any, ...]]) -> list[Any]:
    """What of the steps may be written, as a log; nothing that stands on an undone split is kept after its undo."""
    opened = {"format": 1, "sha256": "0" * 64, "fingerprint": None, "n": N, "k": K}
    events = [(event(0, "open", opened), content_of("open", opened))]
    for chosen in steps:
        state = replay(events, LABELS, K)
        try:
            content = content_of(chosen[0], data_of(chosen, state))
            if chosen[0] == "undo":
                target = content.targets[0]
                if target >= len(events) or target in state.undone:
                    continue
            else:
                check(state, content)
        except InputError:
            continue
        events.append((event(len(events), chosen[0], plain(content)), content))
    return events


def event(seq: int, kind: str, data: dict[str, Any]) -> Event:
    return Event(seq=seq, op=str(seq), after=seq - 1, at="", by="", type=kind, data=data)


def twin(events: list[Any]) -> tuple[list[int], list[bool], list[bool], list[str], dict[int, str]]:
    def happened(seq: int) -> bool:
        return not any(
            later.type == "undo" and seq in content.targets and happened(later.seq)
            for later, content in events[seq + 1 :]
        )

    label, decided, seen, source = LABELS.tolist(), [False] * N, [False] * N, ["model"] * N
    names: dict[int, str] = dict.fromkeys(range(K), "")
    went: dict[int, int] = {}
    for _, content in events:
        if type(content).__name__ == "Split":
            went.update({part.group: content.group for part in content.parts})

    def now(g: int) -> int:
        while g in went:
            g = went[g]
        return g

    for entry, content in events:
        if not happened(entry.seq):
            continue
        if entry.type == "rename":
            names[now(content.group)] = content.name
        elif entry.type == "merge":
            into = now(content.into)
            for other in map(now, content.groups):
                if other == into:
                    continue
                for row in range(N):
                    if label[row] == other:
                        label[row] = into
                        source[row] = source[row] if decided[row] else "group"
                went[other] = into
        elif entry.type == "split":
            parent = now(content.group)
            for part in content.parts:
                rows = [row for row in row_texts.read(part.rows, N).tolist() if label[row] == parent]
                went.pop(part.group)
                names[part.group] = ""
                for row in rows:
                    label[row], decided[row], seen[row], source[row] = part.group, False, False, "group"
        elif entry.type in ("refit", "import"):
            for row, to in zip(row_texts.read(content.rows, N).tolist(), content.labels, strict=True):
                to = now(to) if to >= 0 else -1
                if entry.type == "import":
                    label[row], decided[row], seen[row], source[row] = to, True, True, "import"
                elif not decided[row] and source[row] in ("model", "refit"):
                    label[row], source[row] = to, "refit"
        elif entry.type in ("move", "reject", "approve"):
            for row in row_texts.read(content.rows, N).tolist():
                to = content.group if entry.type == "approve" else content.to
                label[row], decided[row], source[row] = now(to) if to >= 0 else -1, True, "person"
                one_by_one = row in row_texts.read(content.seen, N) if entry.type == "approve" else content.how
                seen[row] = one_by_one in (True, "single", "several")
    return label, decided, seen, source, {g: name for g, name in names.items() if g not in went}


# What draws hardly find: a decided item is merged away, and the members of a split lose the merge that brought them.
@example([("move", {0, 1}, 1, "single"), ("merge", 2, 1)])
@example([("merge", 0, 1), ("split", 0, 3), ("undo", 1), ("refit", {0, 1, 2}, 3)])
@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=25))
def test_the_fold_equals_its_twin(steps: list[tuple[Any, ...]]) -> None:
    events = write_log(steps)
    state = replay(events, LABELS, K)
    label, decided, seen, source, names = twin(events)
    assert state.label.tolist() == label
    assert state.decided.tolist() == decided
    assert state.seen.tolist() == seen
    assert [SOURCES[code] for code in state.origin] == source
    assert {g: state.groups[g].name for g in state.live} == names


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=15))
def test_undoing_everything_gives_the_models_groups(steps: list[tuple[Any, ...]]) -> None:
    events = write_log([chosen for chosen in steps if chosen[0] != "undo"])
    targets = [entry.seq for entry, _ in events[1:]]
    if targets:
        data = {"targets": targets}
        events.append((event(len(events), "undo", data), content_of("undo", data)))
    state = replay(events, LABELS, K)
    assert (state.label == LABELS).all()
    assert state.live == list(range(K))
    assert not state.decided.any()


@given(st.sets(st.integers(0, 300)))
def test_rows_come_back(rows: set[int]) -> None:
    text = row_texts.written(rows)
    assert row_texts.read(text, 10**6).tolist() == sorted(rows)
    assert row_texts.count(text) == len(rows)
    bits = np.zeros(304, np.uint8)
    bits[sorted(rows)] = 1
    packed = row_texts.BITS + base64.b64encode(np.packbits(bits, bitorder="little").tobytes()).decode()
    assert row_texts.unpacked(packed) == text


@pytest.mark.parametrize("text", ["1-2-3", "3-1", "1,1", "1-3,3", "2,1", "1,", ",1", "-1", "1--2", "1 ", "²", "1" * 13])
def test_what_is_no_list_of_rows_is_refused(text: str) -> None:
    for work in (row_texts.count, lambda text: row_texts.read(text, 10**6)):
        with pytest.raises(InputError, match="rows"):
            work(text)
