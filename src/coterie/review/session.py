"""`Review`: a finished run and what people decided about it, held by one process at a time."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import whole_percent
from coterie.records import rows as row_texts
from coterie.review.audits import AuditState, Claim
from coterie.review.base import Base, Ids, read_base
from coterie.review.checks import check_group
from coterie.review.events import Data, Event
from coterie.review.fold import dependents
from coterie.review.journal import Journal
from coterie.review.log import FOLDER, LOG, Lock
from coterie.review.refitting import propose_refit
from coterie.review.sentences import sentence
from coterie.review.state import State
from coterie.review.table import claims, stored_features, write_table
from coterie.review.undoing import last_decision, last_undo
from coterie.types import InputError


class Review:
    """The review of a run folder.

    Takes the same lock as `coterie review`: BeingReviewed is raised where that runs. Every change is on the disk when
    its method returns. Use it in `with`, or call `close`, which writes `result.reviewed.parquet`. `source`: where the
    pictures are now, if they were moved. Items are named by their ids in `result.parquet` or by row numbers.

    >>> import tempfile
    >>> import numpy as np
    >>> from coterie import Clusterer
    >>> from coterie.review import Review
    >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
    >>> folder = tempfile.TemporaryDirectory()
    >>> run = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points).save(folder.name)
    >>> with Review(run, name="me") as review:
    ...     _ = review.rename(0, "near").move(["3"], to=0)
    ...     review.undo()
    '1 item moved to near (0).'
    >>> folder.cleanup()
    """

    def __init__(self, run: str | os.PathLike[str], *, source: str | None = None, name: str | None = None) -> None:
        self.path, self.source = Path(run), source
        self.base: Base = read_base(self.path)
        self._lock = Lock(self.path)
        try:
            self._journal = Journal(self.base, self.path / FOLDER / LOG, _signature(name or _user()))
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
        """Write the reviewed table and let others have the review; nothing more can be decided here.

        Raises InputError where the run was moved or removed meanwhile: it gets no table then.
        """
        with self._journal.guard:
            if self._journal.closed:
                return
            try:
                if self.last > 0 and not self._journal.there:
                    raise InputError(
                        f"{self.path} is not there any more, so its reviewed table was not written. Where it was moved "
                        "to, the decisions are in review/log.jsonl, and coterie export writes them."
                    )
                if self.last > 0:
                    self._write_at_the_end()
            finally:
                self._journal.close()
                self._lock.release()
        self.wake()

    def _write_at_the_end(self) -> None:
        try:
            self.write()
        except InputError as error:
            log = self.path / FOLDER / LOG
            raise InputError(f"{error} No decision is lost: all are in {log}.") from error

    @property
    def state(self) -> State:
        """Labels, groups and audits as they are after the last event."""
        return self._journal.state

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self._journal.last

    @property
    def events(self) -> list[tuple[Event, Data]]:
        """All events, the first line included."""
        return self._journal.events

    @property
    def guard(self) -> AbstractContextManager[Any]:
        """Held while a decision is taken: what is read under it is of one state."""
        return self._journal.guard

    @property
    def features(self) -> NDArray[np.floating] | None:
        """The embedding (n, d) of all items; None where it is not there yet."""
        return self._journal.features

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each item's label (n,), 0 for those that belong nowhere."""
        return self._journal.confidence

    def submit(
        self, kind: str, data: dict[str, Any], *, op: str | None = None, after: int | None = None, sender: str = ""
    ) -> Event:
        """Write an event and apply it, as `Journal.submit` does, with its errors."""
        return self._journal.submit(kind, data, op=op, after=after, sender=sender)

    def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event after this one, or when the time is over."""
        self._journal.wait(after, seconds)

    def wake(self) -> None:
        """Let all calls of `wait` return, now and in future."""
        self._journal.wake()

    def rename(self, group: int, name: str) -> Review:
        """Name a group, in 1 to 80 characters; "" removes the name."""
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
        """The parts that `split` would make, each {"rows": ...}, largest first, and their silhouette (-1 to 1).

        Raises InputError for a group that is not there or cannot be parted so, and without the embedding.
        """
        from coterie.prediction.parts import propose_parts

        check_group(self.state, group)
        rows = self.state.members(group)
        if self.features is None:
            raise InputError("A split needs the embedding of the items: compute it first (Review.compute_features).")
        found, silhouette = propose_parts(np.asarray(self.features[rows], np.float32), k, seed)
        order = np.argsort(-np.bincount(found, minlength=k), kind="stable")
        return [{"rows": row_texts.written(rows[found == part])} for part in order.tolist()], silhouette

    def move(self, ids: Ids, to: int) -> Review:
        """These items belong to the group `to`."""
        self.submit("move", {"rows": row_texts.written(self.base.rows(ids)), "to": int(to)})
        return self

    def reject(self, ids: Ids) -> Review:
        """These items belong to none of the groups."""
        self.submit("reject", {"rows": row_texts.written(self.base.rows(ids))})
        return self

    def approve(self, group: int, ids: Ids | None = None, *, seen: Ids = ()) -> Review:
        """These items, or all members, belong to the group; only those `seen` were looked at."""
        rows = self.state.members(group) if ids is None else self.base.rows(ids)
        data = {"rows": row_texts.written(rows), "seen": row_texts.written(self.base.rows(seen))}
        self.submit("approve", {"group": int(group), **data})
        return self

    def refit(self, *, seed: int = 0, steps: int | None = None) -> int:
        """Train the head again on what was decided and looked at; returns how many undecided labels changed.

        Raises InputError where it predicts decided items, each without itself, no better than the clustering did.
        """
        found = propose_refit(self, seed, steps)
        if not found.better:
            raise InputError(
                f"Training the head again would not help: without them it predicts {whole_percent(found.held_out)} of "
                f"the decided items, the groups as they were {whole_percent(found.before)}."
            )
        if len(found.rows):
            self.submit("refit", found.event())
        return len(found.rows)

    def undo(self, event: int | None = None, *, with_dependents: bool = False) -> str:
        """Undo an event, or the last decision; returns what was undone. Raises NeedsMore, or InputError for none."""
        with self._journal.guard:
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
        with self._journal.guard:
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
        """The claim of every ended audit, by its number."""
        with self._journal.guard:
            return claims(self.base, self.state, self.features)

    def draw(self, size: int, *, max_error: float = 0.05, level: float = 0.95, seed: int | None = None) -> NDArray[Any]:
        """Draw an audit's sample; returns its rows in the order in which they are to be judged."""
        number = max(self.state.audits, default=0) + 1
        seed = int(np.random.default_rng().integers(2**31 - 1)) if seed is None else seed
        data = {"audit": number, "size": int(size), "seed": seed, "max_error": max_error, "level": level}
        self.submit("draw", data)
        return self.state.audits[number].sample

    def judge(self, row: int, answer: str, belongs: int | None = None) -> Review:
        """Say "right", "wrong" or "unsure" of the next item of the sample, and where it belongs, if that is plain.

        Raises InputError for any other row.
        """
        audit = self.open_audit()
        if audit is None:
            raise InputError("No audit is open: draw a sample first.")
        row = int(self.base.rows([row])[0])
        shown = int(audit.labels[row])
        data = {"audit": audit.draw.audit, "row": row, "shown": shown, "answer": answer, "belongs": belongs}
        self.submit("judge", data)
        return self

    def end_audit(self) -> Claim:
        """End the open audit and return its claim; the judgements become labels. Raises InputError without one."""
        audit = self.open_audit()
        if audit is None:
            raise InputError("No audit is open: draw a sample first.")
        self.submit("end", {"audit": audit.draw.audit})
        return self.claims()[audit.draw.audit]

    def open_audit(self) -> AuditState | None:
        """The audit that has been drawn and not ended; one that is void before anything was judged is none."""
        begun = [audit for audit in self.state.audits.values() if audit.ended is None and audit.seq >= 0]
        waiting = [audit for audit in begun if audit.voided is None or audit.judged]
        return waiting[-1] if waiting else None

    def set_features(self, features: NDArray[np.floating]) -> None:
        """Use this embedding (n, d) for splits, neighbours and the map. Raises InputError for another shape."""
        self._journal.set_features(features)

    def compute_features(self, progress: Callable[[int], None] | None = None) -> NDArray[np.floating]:
        """Compute the embedding of all items with the run's model, and keep it in `review/embedding.npy`."""
        from coterie.prediction.embedding import embed_run

        if self.features is None:
            embed_run(self.path, self.base.ids, self.path / FOLDER / "embedding.npy", self.source, progress)
            found = stored_features(self.base)
            assert found is not None
            self.set_features(found)
        assert self.features is not None
        return self.features

    def table(self) -> Any:
        """The reviewed table, as a table of pyarrow."""
        from coterie.review.table import build_table

        with self._journal.guard:
            return build_table(self.base, self.state, self.features, self.events)

    def write(self) -> Path:
        """Write `result.reviewed.parquet` now."""
        with self._journal.guard:
            return write_table(self.base, self.state, self.features, self.events)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user that has no name
        return "somebody"


def _signature(name: str) -> str:
    """The name as the log has it: in one line, and what is no UTF-8 as an escape."""
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split())[:80]
