"""A simulated reviewer: the true labels answer every question, and each question costs keys and seconds.

The costs are assumptions, not measurements: K and M of the keystroke-level model (Card, Moran, Newell, "The
keystroke-level model for user performance time with interactive systems", CACM 1980), 0.28 s a key and 1.35 s to make
up one's mind, and 0.1 s for each thumbnail of a page, or 0.3 s for a slow reader. The reviewer never errs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

KEY, MIND, GLANCE, SLOW = 0.28, 1.35, 0.1, 0.3
NAME = 8  # keys of a name with its Enter
PAGE = 60  # of a sweep, as in sweep.js
MARKED = 4  # strays of a page that the reviewer marks; with more of them the page does not belong

Rows = NDArray[np.int64]


@dataclass
class Reviewer:
    """What was done so far, and the labels as they are. `owner`: the class that each group was named by."""

    truth: Rows  # (n,)
    label: Rows  # (n,), group numbers
    owner: list[int]
    keys: int = 0
    minds: float = 0
    glances: int = 0
    decided: NDArray[np.bool_] = field(init=False)
    seen: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.label = self.label.copy()
        self.decided, self.seen = np.zeros((2, len(self.truth)), bool)

    @property
    def classes(self) -> Rows:
        """(n,): the class that each item's label says."""
        return np.array(self.owner)[self.label]

    @property
    def error(self) -> float:
        return float((self.classes != self.truth).mean())

    def spend(self, keys: int, minds: float = 1, glances: int = 0) -> None:
        self.keys += keys
        self.minds += minds
        self.glances += glances

    def seconds(self, glance: float = GLANCE) -> float:
        return KEY * self.keys + MIND * self.minds + glance * self.glances

    def group_of(self, cls: int) -> int:
        """The group of a class; made, and named, where there is none."""
        if cls not in self.owner:
            self.owner.append(cls)
            self.spend(2 + NAME)
        return self.owner.index(cls)

    def name(self, confidence: NDArray[np.float64]) -> None:
        """Name each group by what its six surest and six least sure members mostly are, and merge those of one name."""
        for group in range(len(self.owner)):
            members = np.flatnonzero(self.label == group)
            if not len(members):
                continue
            order = members[np.argsort(-confidence[members], kind="stable")]
            shown = np.unique(np.r_[order[:6], order[-6:]])
            cls = int(np.bincount(self.truth[shown]).argmax())
            if cls in self.owner:
                self.spend(3, glances=len(shown))  # M and the number
                self.label[members] = self.owner.index(cls)
            else:
                self.spend(1 + NAME, glances=len(shown))
                self.owner[group] = cls

    def answer(self, row: int, near: Rows | None = None) -> Rows:
        """Decide one picture that is shown alone, and those like it where all are of its class; returns what was."""
        along = near is not None and len(near) > 0 and bool((self.truth[near] == self.truth[row]).all())
        self.spend(1, glances=0 if near is None else len(near))
        rows = np.r_[row, near] if along and near is not None else np.array([row])
        self.decide(rows, self.group_of(int(self.truth[row])))
        return rows

    def decide(self, rows: Rows, group: int, *, seen: bool = True) -> None:
        self.label[rows], self.decided[rows] = group, True
        self.seen[rows] |= seen

    def sweep(self, group: int, order: Rows) -> dict[str, int]:
        """Sweep a group, its open members in this order: what belongs is approved, a digit moves each stray."""
        search, strays = Search(-(-len(order) // PAGE)), 0
        self.spend(1, minds=0)
        while not search.done:
            page = order[search.page * PAGE : (search.page + 1) * PAGE]
            wrong = page[self.truth[page] != self.owner[group]]
            self.spend(1, glances=len(page))
            if len(wrong) > MARKED:
                search.no()
                continue
            for row in wrong.tolist():
                self.spend(2)  # to the picture, and the digit
                self.decide(np.array([row]), self.group_of(int(self.truth[row])))
            strays += len(wrong)
            search.yes(marked=len(wrong) > 0)
        taken = order[: (search.low + 1) * PAGE]
        taken = taken[~self.decided[taken]]
        self.decide(taken, group, seen=False)
        for page in search.seen:
            if page <= search.low:
                self.seen[np.intersect1d(taken, order[page * PAGE : (page + 1) * PAGE])] = True
        return {"pages": search.pages, "looked": search.looks, "approved": len(taken), "strays": strays}


class Search:
    """Which page of a sweep is next: the twin of `Search` in sweep.js."""

    def __init__(self, pages: int) -> None:
        self.pages, self.low, self.high, self.step, self.page = pages, -1, pages, 1, 0
        self.careful, self.looks = False, 0
        self.seen: set[int] = set()

    @property
    def done(self) -> bool:
        return self.high - self.low <= 1

    def yes(self, *, marked: bool = False) -> None:
        """All of the page belong, but for what was marked."""
        self.seen.add(self.page)
        self.low = self.page
        self.careful |= marked
        self._next()

    def no(self) -> None:
        """Not all of it do."""
        self.high = self.page
        self._next()

    def _next(self) -> None:
        self.looks += 1
        if self.done:
            return
        if self.careful:
            self.page = self.low + 1
        elif self.high == self.pages:
            self.page = min(self.low + self.step, self.pages - 1)
            self.step *= 2
        else:
            self.page = self.low + max(1, (self.high - self.low) // 4)


def by_gain(
    confidence: NDArray[np.float64], runner_up: Rows, label: Rows, near: Rows, like: NDArray[np.float64]
) -> Iterator[int]:
    """Rows by expected gain, e_i (1 + Σ s_ij e_j), best first; an answer multiplies its neighbours' e_j by 1 - s_ij.

    near, like (n, 15): the nearest items and their cosines; those of another group or another runner-up do not count.
    Every answer takes one key, so the gain is not divided by their number. Whoever reads says by `send` which rows were
    answered, or gets the next one.
    """
    same = (label[near] == label[:, None]) & (runner_up[near] == runner_up[:, None])
    s = np.where(same, np.clip(like, 0, 1), 0)
    e = 1 - confidence
    asked_by = _asked_by(near)
    done = np.zeros(len(e), bool)

    def gain(rows: Rows) -> NDArray[np.float64]:
        return np.asarray(e[rows] * (1 + (s[rows] * e[near[rows]] * ~done[near[rows]]).sum(axis=1)))

    now = gain(np.arange(len(e)))
    heap = [(-value, row) for row, value in enumerate(now.tolist())]
    heapq.heapify(heap)
    while heap:
        value, row = heapq.heappop(heap)
        if done[row] or -value != now[row]:
            continue
        answered = yield row
        for one in (row,) if answered is None else answered:
            done[one] = True
            e[near[one]] *= 1 - s[one]
            changed = np.unique(np.concatenate([near[one], *(asked_by[j] for j in near[one])]))
            changed = changed[~done[changed]]
            now[changed] = gain(changed)
            for other, fresh in zip(changed.tolist(), now[changed].tolist(), strict=True):
                heapq.heappush(heap, (-fresh, other))


def _asked_by(near: Rows) -> list[Rows]:
    """For each item those that have it among their nearest."""
    order = np.argsort(near.ravel(), kind="stable")
    ends = np.searchsorted(near.ravel()[order], np.arange(len(near) + 1))
    rows = order // near.shape[1]
    return [rows[a:b] for a, b in pairwise(ends)]
