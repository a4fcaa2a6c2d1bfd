"""`Review`: a finished run and what people decided about it, held by one process at a time."""

from __future__ import annotations

import getpass
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.review import rows as row_texts
from coterie.review.audits import AuditState, Claim
from coterie.review.base import Base, read_base
from coterie.review.checks import check, reach
from coterie.review.columns import columns_of
from coterie.review.events import NOWHERE, Data, Event, Open, Undo, content_of, plain
from coterie.review.log import FOLDER, LOG, Conflict, Lock, Log
from coterie.review.refitting import propose_refit
from coterie.review.sentences import sentence
from coterie.review.state import State, Touched, dependents, replay
from coterie.review.table import check_same, claims, stored_features, write_table
from coterie.review.undoing import NeedsMore, last_decision, last_undo, reach_of_undo, tried
from coterie.types import InputError

Ids = Sequence[str] | Sequence[int] | NDArray[Any]


class Review:
    """The review of a run folder.

    Takes the same lock as `coterie review`: BeingReviewed is raised where that runs. Every change is on the disk when
    its method returns. Use it in `with`, or call `close`, which writes `result.reviewed.parquet`. `source`: where the
    pictures are now, if not where they were. Ids are those of `result.parquet`; row numbers are taken, too.
    """

    def __init__(self, run: str | os.PathLike[str], *, source: str | None = None, name: str | None = None) -> None:
        self.path = Path(run)
        self.base: Base = read_base(self.path)
        self.source, self.by = source, (name or _user())[:80]
        self._guard, self._grown, self._awake = threading.RLock(), threading.Condition(), False
        self._lock = Lock(self.path)
        try:
            self._log = Log(self.path / FOLDER / LOG)
            if self._log.events:
                check_same(self.base, self._log.events)
            else:
                base = self.base
                opened = Open(format=1, sha256=base.sha256, fingerprint=base.fingerprint, n=base.n, k=base.k)
                self._log.append(self._event("open", opened, uuid.uuid4().hex, -1, self.by), opened)
            self._features: NDArray[np.floating] | None = stored_features(self.base)
            self._confidence: NDArray[np.float64] | None = None
            self._replay()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Review:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write the reviewed table and let others have the review; nothing more can be decided here."""
        with self._guard:
            if self._log._file < 0:
                return
            try:
                if len(self._log.events) > 1:
                    self.write()
            finally:
                self._log.close()
                self._lock.release()
        self.wake()

    @property
    def last(self) -> int:
        """The number of the last event."""
        return len(self._log.events) - 1

    @property
    def events(self) -> list[tuple[Event, Data]]:
        """All events, the first line included."""
        return self._log.events

    @property
    def features(self) -> NDArray[np.floating] | None:
        """The embedding (n, d) of all items; None where it is not there yet."""
        return self._features

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each item's label (n,), 0 for those that belong nowhere."""
        with self._guard:
            if self._confidence is None:
                columns = columns_of(self.base, self.state, self._features)
                self._confidence = columns.confidence(self.state.label)
            return self._confidence

    def submit(
        self, kind: str, data: dict[str, Any], *, op: str | None = None, after: int | None = None, sender: str = ""
    ) -> Event:
        """Write an event and apply it; a retry with the same `op` gives the event that is there.

        `after`: the last event that the sender had seen; its own, whose `op` begins with `sender`, it knows anyway.
        Raises Conflict where one since then touches the same rows or groups, LogBroken where it cannot be saved,
        InputError where it cannot be; nothing is written then.
        """
        with self._guard:
            op = op or uuid.uuid4().hex
            known = self._log.known(op, kind)
            if known is not None:
                return known
            content = content_of(kind, self._numbered(kind, data))
            after = self.last if after is None else after
            if not 0 <= after <= self.last:
                raise InputError(f"The log has no event {after}, its last is {self.last}: load the page again.")
            touched = self._reach(content)
            since = [
                event
                for event, _ in self.events[after + 1 :]
                if self._touched[event.seq].collides(touched) and not (sender and event.op.startswith(sender))
            ]
            if since:
                raise Conflict(since)
            trial = self._checked(content)
            event = self._event(kind, content, op, after, self.by)
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
        """Let all that wait return, now and from here on."""
        with self._grown:
            self._awake = True
            self._grown.notify_all()

    def rename(self, group: int, name: str) -> Review:
        """Call a group by a name of 1 to 80 characters, "" for none."""
        self.submit("rename", {"group": int(group), "name": name})
        return self

    def merge(self, into: int, groups: Sequence[int]) -> Review:
        """Members of `groups` go to `into`; the numbers of `groups` are never used again."""
        self.submit("merge", {"into": int(into), "from": [int(g) for g in groups]})
        return self

    def split(self, group: int, k: int = 2, *, seed: int = 0) -> list[int]:
        """Part a group in k by K-means on the embedding; returns the new groups' numbers. Raises InputError."""
        parts = self.propose_split(group, k, seed)[0]
        data = {"group": int(group), "parts": parts, "how": {"by": "kmeans", "k": k, "seed": seed}}
        event = self.submit("split", data)
        return [part["group"] for part in event.data["parts"]]

    def propose_split(self, group: int, k: int, seed: int = 0) -> tuple[list[dict[str, str]], float]:
        """The parts that `split` would make, each {"rows": ...}, largest first, and their silhouette (-1 to 1)."""
        from coterie.prediction.parts import propose_parts

        rows = self.state.members(group)
        if self._features is None:
            raise InputError("A split needs the embedding of the items: compute it first (Review.compute_features).")
        found, silhouette = propose_parts(np.asarray(self._features[rows], np.float32), k, seed)
        order = np.argsort(-np.bincount(found, minlength=k), kind="stable")
        return [{"rows": row_texts.written(rows[found == part])} for part in order.tolist()], silhouette

    def move(self, ids: Ids, to: int) -> Review:
        """These items belong to the group `to`."""
        self.submit("move", {"rows": row_texts.written(self._rows(ids)), "to": int(to)})
        return self

    def reject(self, ids: Ids) -> Review:
        """These items belong to none of the groups."""
        self.submit("reject", {"rows": row_texts.written(self._rows(ids))})
        return self

    def approve(self, group: int, ids: Ids | None = None, *, seen: Ids = ()) -> Review:
        """These items, or all members, belong to the group; only those `seen` were looked at."""
        rows = self.state.members(group) if ids is None else self._rows(ids)
        data = {"rows": row_texts.written(rows), "seen": row_texts.written(self._rows(seen))}
        self.submit("approve", {"group": int(group), **data})
        return self

    def refit(self, *, seed: int = 0, steps: int | None = None) -> int:
        """Train the head again on what was decided and looked at; returns how many undecided labels changed.

        Raises InputError where it predicts decided items, each without itself, no better than the clustering did.
        """
        found = propose_refit(self, seed, steps)
        if not found.better:
            raise InputError(
                f"Training the head again would not help: without them it predicts {found.held_out:.0%} of the decided "
                f"items, the groups as they were {found.before:.0%}."
            )
        if len(found.rows):
            self.submit("refit", found.event())
        return len(found.rows)

    def undo(self, event: int | None = None, *, with_dependents: bool = False) -> str:
        """Undo an event, or the last decision; returns what was undone. Raises NeedsMore, or InputError for none."""
        with self._guard:
            target = self.last_decision() if event is None else event
            if target is None:
                raise InputError("There is nothing to undo.")
            targets = {target}
            if with_dependents and target <= self.last:
                targets |= dependents(self.events, targets, self.state.undone)
            what = sentence(*self.events[target], self.state) if 0 < target <= self.last else ""
            self.submit("undo", {"targets": sorted(targets)})
            return what

    def redo(self) -> str:
        """Take the last undo back, if no decision came after it. Raises InputError where there is none."""
        with self._guard:
            target = self.last_undo()
            if target is None:
                raise InputError("There is nothing to redo.")
            self.submit("undo", {"targets": [target]})
            return sentence(*self.events[target], self.state)

    def last_decision(self) -> int | None:
        """The last event that is neither undone nor an undo, nor a part of an audit that has ended."""
        return last_decision(self.events, self.state)

    def last_undo(self) -> int | None:
        """The last undo of decisions that stands, if no decision came after it."""
        return last_undo(self.events, self.state)

    def history(self) -> list[str]:
        """Each event as a sentence, the oldest first; those undone say so."""
        found = []
        for event, content in self.events:
            undone = " (undone)" if event.seq in self.state.undone else ""
            found.append(f"{event.seq} {event.at} {event.by}: {sentence(event, content, self.state)}{undone}")
        return found

    def claims(self) -> dict[int, Claim]:
        """What every ended audit shows."""
        with self._guard:
            return claims(self.base, self.state, self._features)

    def draw(self, size: int, *, max_error: float = 0.05, level: float = 0.95, seed: int | None = None) -> NDArray[Any]:
        """Draw an audit's sample; returns its rows in the order in which they are to be judged."""
        number = max(self.state.audits, default=0) + 1
        seed = int(np.random.default_rng().integers(2**31 - 1)) if seed is None else seed
        data = {"audit": number, "size": int(size), "seed": seed, "max_error": max_error, "level": level}
        self.submit("draw", data)
        return self.state.audits[number].sample

    def judge(self, row: int, answer: str, belongs: int | None = None) -> Review:
        """Say "right", "wrong" or "unsure" of the next item of the sample, and where it belongs, if that is plain."""
        audit = self.open_audit()
        if audit is None:
            raise InputError("No audit is open: draw a sample first.")
        shown = int(audit.labels[row])
        data = {"audit": audit.draw.audit, "row": int(row), "shown": shown, "answer": answer, "belongs": belongs}
        self.submit("judge", data)
        return self

    def end_audit(self) -> Claim:
        """End the open audit; its judgements become labels, and its claim may be read."""
        audit = self.open_audit()
        if audit is None:
            raise InputError("No audit is open: draw a sample first.")
        self.submit("end", {"audit": audit.draw.audit})
        return self.claims()[audit.draw.audit]

    def open_audit(self) -> AuditState | None:
        """The audit that has been drawn and not ended."""
        waiting = [audit for audit in self.state.audits.values() if audit.ended is None and audit.seq >= 0]
        return waiting[-1] if waiting else None

    def set_features(self, features: NDArray[np.floating]) -> None:
        """Use this embedding (n, d) for splits, neighbours and the map."""
        with self._guard:
            if features.ndim != 2 or len(features) != self.base.n:
                raise InputError(f"The embedding has the shape {features.shape}, the run {self.base.n:,} items.")
            self._features, self._confidence = features, None

    def compute_features(self, progress: Callable[[int], None] | None = None) -> NDArray[np.floating]:
        """Compute the embedding of all items with the run's model, and keep it in `review/embedding.npy`."""
        from coterie.prediction.embedding import embed_run

        if self._features is None:
            embed_run(self.path, self.base.ids, self.path / FOLDER / "embedding.npy", self.source, progress)
            found = stored_features(self.base)
            assert found is not None
            self.set_features(found)
        assert self._features is not None
        return self._features

    def table(self) -> Any:
        """The reviewed table, as a table of pyarrow."""
        from coterie.review.table import build_table

        with self._guard:
            return build_table(self.base, self.state, self._features, self.last)

    def write(self) -> Path:
        """Write `result.reviewed.parquet` now."""
        with self._guard:
            return write_table(self.base, self.state, self._features, self.last)

    def _rows(self, ids: Ids | Iterable[Any]) -> NDArray[np.int64]:
        given = list(ids)
        if not given:
            return np.empty(0, np.int64)
        if all(isinstance(item, int | np.integer) for item in given):
            rows = np.array(given, np.int64)
            if rows.min() < 0 or rows.max() >= self.base.n:
                raise InputError(f"Rows go from 0 to {self.base.n - 1}.")
            return rows
        return self.base.rows([str(item) for item in given])

    def _event(self, kind: str, content: Data, op: str, after: int, by: str) -> Event:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        seq = len(self._log.events)
        return Event(seq=seq, op=op, after=after, at=at, by=by, type=kind, data=plain(content))

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
            return tried(
                self.base, self.events, self.state, self._event("undo", content, "trial", self.last, self.by), content
            )
        check(self.state, content)
        return None

    def _apply(self, event: Event, content: Data) -> None:
        columns = len(self.state.columns)
        touched = self.state.apply(event, content)
        self._touched[event.seq] = touched
        if self._confidence is None:
            return
        if len(self.state.columns) > columns:
            self._confidence = None
        elif len(touched.rows):
            rows = touched.rows
            found = columns_of(self.base, self.state, self._features).confidence(self.state.label[rows], rows)
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


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user that has no name
        return "somebody"


__all__ = ["NOWHERE", "NeedsMore", "Review"]
