"""The overview: a card for each group, and which two groups may be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from coterie.report.charts import sparkbars
from coterie.report.scatter import COLOURS
from coterie.review import Review
from coterie.review.columns import columns_of

CARDS, PAGE = 30, 100  # more groups than CARDS come as a table, PAGE at a time
SHOWN = 6  # items of a strip
HINT = 0.02  # of the members' probability: a hint below it is none
SORTS = {
    "least-sure": "least sure first",
    "number": "by number",
    "largest": "largest first",
    "undecided": "most undecided first",
}


@dataclass(frozen=True)
class Card:
    """A group as the overview shows it."""

    number: int
    name: str
    colour: int
    size: int
    share: float  # of all items
    confidence: float | None
    decided: float  # share of its members
    undecided: int
    seen: int
    histogram: Markup | None
    surest: list[int]
    doubtful: list[int]
    approved: bool


@dataclass(frozen=True)
class Hint:
    """Two groups that are each other's second choice; `mass` is the members' mean probability of the other."""

    a: int
    b: int
    mass: float


class Overview:
    """Cards and hints, computed once for a state."""

    def __init__(self, review: Review) -> None:
        self.review = review
        self._mass: tuple[int, NDArray[np.float64]] | None = None

    def sizes(self) -> dict[str, NDArray[np.int64]]:
        """Members, decided and seen ones of every group number."""
        state, width = self.review.state, self.review.state.next_group
        inside = state.label >= 0
        return {
            "size": np.bincount(state.label[inside], minlength=width),
            "decided": np.bincount(state.label[inside & state.decided], minlength=width),
            "seen": np.bincount(state.label[inside & state.seen], minlength=width),
        }

    def cards(self, sort: str = "least-sure", page: int = 0) -> tuple[list[Card], int]:
        """The cards of a page, and how many groups there are."""
        review, state = self.review, self.review.state
        confidence, counted = review.confidence, self.sizes()
        inside = state.label >= 0
        sums = np.bincount(state.label[inside], weights=confidence[inside], minlength=state.next_group)
        size, decided = counted["size"], counted["decided"]
        mean = np.divide(sums, size, out=np.ones(len(sums)), where=size > 0)
        live = [g for g in state.live if size[g] or g < review.base.k]
        key = {
            "number": lambda g: g,
            "largest": lambda g: (-size[g], g),
            "undecided": lambda g: (decided[g] - size[g], g),
        }.get(sort, lambda g: (size[g] == decided[g], size[g] == 0, mean[g], g))  # what is decided comes last
        live.sort(key=key)
        as_table = len(live) > CARDS
        shown = live[page * PAGE : (page + 1) * PAGE] if as_table else live
        order = np.lexsort((-confidence, state.label))
        starts = np.searchsorted(state.label[order], shown)
        strip = 3 if as_table else SHOWN
        cards = []
        for number, start in zip(shown, starts.tolist(), strict=True):
            members = order[start : start + int(size[number])]
            surest = members[: min(strip, (len(members) + 1) // 2)].tolist()
            # What a person has decided is no doubt any more, however little the model gave it.
            doubtful = [row for row in members[~state.decided[members]][::-1].tolist() if row not in surest][:strip]
            cards.append(
                Card(
                    number,
                    state.groups[number].name,
                    number % COLOURS,
                    len(members),
                    len(members) / review.base.n,
                    float(mean[number]) if len(members) else None,
                    float(decided[number] / size[number]) if size[number] else 0.0,
                    int(size[number] - decided[number]),
                    int(counted["seen"][number]),
                    sparkbars(confidence[members]) if not as_table and len(members) else None,
                    surest,
                    doubtful,
                    bool(size[number] and decided[number] == size[number]),
                )
            )
        return cards, len(live)

    def hints(self, most: int = 3) -> list[Hint]:
        """Pairs of groups that are each other's second choice, the strongest first; none that was said to differ."""
        state = self.review.state
        mass, size = self.mass(), self.sizes()["size"]
        live = [g for g in state.live if size[g]]
        if len(live) < 2:
            return []
        apart = {frozenset((link.a, link.b)) for link in state.links if link.groups and not link.same}
        live_array = np.array(live)
        table = mass[np.ix_(live_array, live_array)]
        np.fill_diagonal(table, -1)
        second = table.argmax(axis=1)
        found = []
        for place, other in enumerate(second.tolist()):
            if second[other] == place and place < other:
                a, b = live[place], live[other]
                value = float((table[place, other] + table[other, place]) / (size[a] + size[b]))
                if value >= HINT and frozenset((a, b)) not in apart:
                    found.append(Hint(a, b, value))
        return sorted(found, key=lambda hint: -hint.mass)[:most]

    def mass(self) -> NDArray[np.float64]:
        """(groups, groups): the sum over the members of one of the probability of another."""
        if self._mass is None or self._mass[0] != self.review.last:
            state = self.review.state
            columns = columns_of(self.review.base, state, self.review.features)
            found = np.zeros((columns.width, columns.width))
            for start, p in columns.blocks():
                label = state.label[start : start + len(p)]
                order = np.argsort(label, kind="stable")
                groups, firsts = np.unique(label[order], return_index=True)
                sums = np.add.reduceat(p[order], firsts, axis=0, dtype=np.float64)
                found[groups[groups >= 0]] += sums[groups >= 0]
            self._mass = self.review.last, found
        return self._mass[1]

    def totals(self) -> dict[str, Any]:
        """The numbers of the whole review in the header."""
        state = self.review.state
        return {
            "n": self.review.base.n,
            "decided": int(state.decided.sum()),
            "seen": int(state.seen.sum()),
            "rejected": int((state.label < 0).sum()),
            "seq": self.review.last,
        }
