"""The overview: a card for each group, and which two groups may be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from coterie.report.charts import sparkbars
from coterie.review import Review
from coterie.review.columns import columns_of

CARDS, PAGE = 30, 100  # more groups than CARDS come as a table, PAGE at a time
SHOWN = 6  # items of a strip
HINT = 0.02  # of the members' probability: a hint below it is none
HINTS = 3
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
    size: int
    share: float  # of all items
    confidence: float | None
    decided: float  # share of its members
    histogram: Markup | None
    surest: list[int]
    doubtful: list[int]
    approved: bool  # all members are decided


@dataclass(frozen=True)
class Page:
    """The groups of one page of the overview: as cards, or as a table where there are many."""

    cards: list[Card]
    total: int  # groups on all pages
    number: int  # from 0
    last: int
    as_table: bool


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
        self._mass: tuple[NDArray[np.int32], list[Any], NDArray[np.floating] | None, NDArray[np.float64]] | None = None

    def sizes(self) -> NDArray[np.int64]:
        """The number of members of every group, by the group's number."""
        return _tally(self.review.state.label, self.review.state.next_group)

    def page(self, sort: str = "least-sure", number: int = 0) -> Page:
        """The page of this number, or the nearest that there is."""
        review, state = self.review, self.review.state
        live = self._sorted(sort)
        as_table = len(live) > CARDS
        last = (len(live) - 1) // PAGE if as_table else 0
        number = min(max(0, number), last)
        shown = live[number * PAGE : (number + 1) * PAGE] if as_table else live
        order = np.lexsort((-review.confidence, state.label))
        starts, sizes, means = np.searchsorted(state.label[order], shown), self.sizes(), self._means()
        cards = []
        for group, start in zip(shown, starts.tolist(), strict=True):
            members = order[start : start + int(sizes[group])]
            cards.append(self._card(group, members, float(means[group]), as_table=as_table))
        return Page(cards, len(live), number, last, as_table)

    def _sorted(self, sort: str) -> list[int]:
        """The groups that are shown, in this order: those that are there, but for parts that have lost their items."""
        state, k = self.review.state, self.review.base.k
        size, decided, mean = self.sizes(), _tally(state.label[state.decided], state.next_group), self._means()
        key = {
            "number": lambda g: g,
            "largest": lambda g: (-size[g], g),
            "undecided": lambda g: (decided[g] - size[g], g),
        }.get(sort, lambda g: (size[g] == decided[g], size[g] == 0, mean[g], g))  # what is decided comes last
        return sorted((g for g in state.live if size[g] or g < k), key=key)

    def _means(self) -> NDArray[np.float64]:
        """The mean confidence of every group's members; 1 of none."""
        state, size = self.review.state, self.sizes()
        inside = state.label >= 0
        weights = self.review.confidence[inside]
        sums = np.bincount(state.label[inside], weights=weights, minlength=state.next_group)
        return np.divide(sums, size, out=np.ones(len(sums)), where=size > 0)

    def _card(self, number: int, members: NDArray[np.intp], mean: float, *, as_table: bool) -> Card:
        """The card of a group with these members, surest first."""
        review, state, size = self.review, self.review.state, len(members)
        decided, strip = int(state.decided[members].sum()), 3 if as_table else SHOWN
        surest = members[: min(strip, (size + 1) // 2)].tolist()
        # What a person has decided is no doubt any more, however little the model gave it.
        doubtful = [row for row in members[~state.decided[members]][::-1].tolist() if row not in surest][:strip]
        return Card(
            number,
            name=state.groups[number].name,
            size=size,
            share=size / review.base.n,
            confidence=mean if size else None,
            decided=decided / size if size else 0.0,
            histogram=sparkbars(review.confidence[members]) if size and not as_table else None,
            surest=surest,
            doubtful=doubtful,
            approved=0 < size == decided,
        )

    def hints(self) -> list[Hint]:
        """The three strongest pairs of groups that are each other's second choice; none that was said to differ."""
        state = self.review.state
        mass, size = self.mass(), self.sizes()
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
        return sorted(found, key=lambda hint: -hint.mass)[:HINTS]

    def mass(self) -> NDArray[np.float64]:
        """(groups, groups): the sum over the members of one of the probability of another."""
        state, features = self.review.state, self.review.features
        if self._mass is not None:
            label, changes, of, found = self._mass
            # A name or an approval moves nothing: no reason to read all probabilities again.
            if np.array_equal(label, state.label) and changes == state.columns and of is features:
                return found
        columns = columns_of(self.review.base, state, features)
        found = np.zeros((columns.width, columns.width))
        for start, p in columns.blocks():
            label = state.label[start : start + len(p)]
            order = np.argsort(label, kind="stable")
            groups, firsts = np.unique(label[order], return_index=True)
            sums = np.add.reduceat(p[order], firsts, axis=0, dtype=np.float64)
            found[groups[groups >= 0]] += sums[groups >= 0]
        self._mass = state.label.copy(), list(state.columns), features, found
        return found

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


def _tally(label: NDArray[np.integer], width: int) -> NDArray[np.int64]:
    """How many items are in each of `width` groups; the rejected ones are in none."""
    return np.bincount(label[label >= 0], minlength=width)
