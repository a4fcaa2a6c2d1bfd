"""A review in memory: its log, the state that follows from it, and the one way to write an event."""

from __future__ import annotations

import contextlib
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import not_written
from coterie.records.review import REVIEWED, read_review
from coterie.review.base import Base
from coterie.review.checks import check, reach
from coterie.review.columns import columns_of
from coterie.review.effects import apply
from coterie.review.events import Data, Event, Open, Undo, content_of, plain
from coterie.review.fold import replay
from coterie.review.log import Conflict, Log, LogBroken
from coterie.review.state import State, Touched
from coterie.review.table import check_same, stored_features
from coterie.review.undoing import reach_of_undo, tried
from coterie.types import InputError


class Journal:
    """The log of a run's review, open for writing, and the state after its events. Safe to use from several threads.

    The lock of the review is held by whoever has this. Raises InputError for a log of another result.
    """

    def __init__(self, base: Base, path: Path, by: str) -> None:
        self.base, self.by = base, by
        self.guard, self._grown, self._awake = threading.RLock(), threading.Condition(), False
        self._log = Log(path)
        try:
            self._open()
        except BaseException:
            self._log.close()
            raise
        self.features: NDArray[np.floating] | None = stored_features(base)
        self._confidence: NDArray[np.float64] | None = None
        self._replay()

    def _open(self) -> None:
        """Check that the log is about this result, or begin it."""
        base, path = self.base, self._log.path
        if self._log.events:
            check_same(base, self._log.events)
            return
        _check_new(base.path, path)
        opened = Open(format=1, sha256=base.sha256, fingerprint=base.fingerprint, n=base.n, k=base.k)
        try:
            self._log.append(self._event("open", opened, uuid.uuid4().hex, -1), opened)
        except LogBroken as error:
            if isinstance(reason := error.__cause__, OSError):  # no decision yet that could be sent again
                raise not_written(path, reason) from error
            raise

    def close(self) -> None:
        """Close the log: no more events are taken."""
        self._log.close()

    @property
    def closed(self) -> bool:
        """Whether it takes no more events."""
        return self._log.closed

    @property
    def there(self) -> bool:
        """Whether the log is still at its path."""
        return self._log.there

    @property
    def last(self) -> int:
        """The number of the last event."""
        return len(self._log.events) - 1

    @property
    def events(self) -> list[tuple[Event, Data]]:
        """All events, the first line included."""
        return self._log.events

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each item's label (n,), 0 for those that belong nowhere."""
        with self.guard:
            if self._confidence is None:
                columns = columns_of(self.base, self.state, self.features)
                self._confidence = columns.confidence(self.state.label)
            return self._confidence

    def set_features(self, features: NDArray[np.floating]) -> None:
        """Use this embedding (n, d). Raises InputError for another shape."""
        with self.guard:
            if features.ndim != 2 or len(features) != self.base.n:
                raise InputError(f"The embedding has the shape {features.shape}, the run {self.base.n:,} items.")
            self.features, self._confidence = features, None

    def submit(
        self, kind: str, data: dict[str, Any], *, op: str | None = None, after: int | None = None, sender: str = ""
    ) -> Event:
        """Write an event and apply it; a retry with the same `op` gives the event that is there.

        `after`: the last event that the sender had seen; its own, whose `op` begins with `sender`, it knows anyway.
        Raises Conflict where one since then touches the same rows or groups, LogBroken where it cannot be saved,
        InputError where it cannot be; nothing is written then.
        """
        with self.guard:
            op = op or uuid.uuid4().hex
            known = self._log.known(op, kind)
            if known is not None:
                return known
            content = content_of(kind, self._numbered(kind, data))
            after = self.last if after is None else after
            if not 0 <= after <= self.last:
                raise InputError(f"The log has no event {after}, its last is {self.last}: load the page again.")
            touched = self._reach(content)
            since = self._since(touched, after, sender)
            if since:
                raise Conflict(since)
            trial = self._checked(content)
            event = self._event(kind, content, op, after)
            self._log.append(event, content)
            if trial is not None:
                self.state, self._confidence = trial, None
                self._touched[event.seq] = touched
            else:
                self._apply(event, content)
        with self._grown:
            self._grown.notify_all()
        return event

    def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event after this one, or when the time is over."""
        with self._grown:
            self._grown.wait_for(lambda: self.last > after or self._awake, seconds)

    def wake(self) -> None:
        """Let all calls of `wait` return, now and in future."""
        with self._grown:
            self._awake = True
            self._grown.notify_all()

    def _since(self, touched: Touched, after: int, sender: str) -> list[Event]:
        """The events after `after` that collide with this, but for the sender's own."""
        inside = np.zeros(self.base.n, bool)  # not of each pair of events which rows both have: a tab may be old
        inside[touched.rows] = True
        found = []
        for event, _ in self.events[after + 1 :]:
            known = self._touched[event.seq]
            foreign = not (sender and event.op.startswith(sender))
            if foreign and (known.shares_groups(touched) or inside[known.rows].any()):
                found.append(event)
        return found

    def _event(self, kind: str, content: Data, op: str, after: int) -> Event:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        seq = len(self._log.events)
        return Event(seq=seq, op=op, after=after, at=at, by=self.by, type=kind, data=plain(content))

    def _numbered(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """New groups get their numbers here: a sender cannot know which are free."""
        parts = data.get("parts")
        if kind != "split" or not isinstance(parts, list):
            return data
        first = self.state.next_group
        return data | {"parts": [{"group": first + i, **p} if isinstance(p, dict) else p for i, p in enumerate(parts)]}

    def _reach(self, content: Data) -> Touched:
        if isinstance(content, Undo):
            return reach_of_undo(content, self.events, self._touched, self.state)
        return reach(self.state, content)

    def _checked(self, content: Data) -> State | None:
        """Raise InputError for what cannot be; of an undo, the state after it."""
        if isinstance(content, Undo):
            event = self._event("undo", content, "trial", self.last)
            return tried(self.base, self.events, self.state, event, content)
        check(self.state, content)
        return None

    def _apply(self, event: Event, content: Data) -> None:
        columns = len(self.state.columns)
        touched = apply(self.state, event, content)
        self._touched[event.seq] = touched
        if self._confidence is None:
            return
        if len(self.state.columns) > columns:
            self._confidence = None
        elif len(touched.rows):
            rows = touched.rows
            found = columns_of(self.base, self.state, self.features).confidence(self.state.label[rows], rows)
            self._confidence = self._confidence.copy()
            self._confidence[rows] = found

    def _replay(self) -> None:
        self.state = replay(self.events, self.base.labels, self.base.k, self.base.names)
        self._touched: dict[int, Touched] = {0: Touched()}
        for event, _ in self.events[1:]:
            known = self.state.touched.get(event.seq)
            self._touched[event.seq] = known if known is not None else Touched()
        for event, content in self.events[1:]:
            if isinstance(content, Undo):
                self._touched[event.seq] = self._reach(content)


def _check_new(run: Path, log: Path) -> None:
    """Raise InputError where a review would begin anew over a table of decisions whose log is lost."""
    before = None
    with contextlib.suppress(InputError):  # a file of somebody else is left alone when the table is written
        before = read_review(run)
    if before is not None and before.events:
        raise InputError(
            f"{log} is gone or empty, but {run / REVIEWED} holds what was decided: put the log back, or move that "
            "table away to begin anew."
        )
