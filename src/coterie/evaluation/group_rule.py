"""The rule of `number_of_groups`: from a curve over K to a recommendation, its plateau, or "no number stands out".

A number is recommended if three conditions hold. Its groups hold on other items (prediction strength of at least 0.8).
They are stabler than groups of a single Gaussian and, among the numbers that meet these two conditions, as stable as
the stablest within a standard error. Two of the four other criteria give about the same number. Stability alone is not
enough: on embeddings of photos two or five coarse groups are very stable, and say nothing about the number that a
person has in mind. The rule was chosen on synthetic mixtures and on shapes without groups
(experiments/choosing_k_rule.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from coterie.evaluation.stability import STRICT_UP_TO

HOLDS = 0.8  # prediction strength of groups that hold on other items (Tibshirani & Walther: 0.8 to 0.9)
CONFIRMED = 2  # of the four other criteria
APART = 2.0  # ratio of the largest to the smallest answer, above which the user is told


@dataclass(frozen=True)
class Row:
    """One K of the curve. `error` is the standard error of `excess`, the stability beyond the Gaussian's."""

    k: int
    prediction_strength: float
    stability: float
    excess: float
    error: float
    ambiguous: float  # share of pairs that are neither always nor never together; low is good
    gap: float  # mean ln W of the Gaussian less ln W, W the sum of squared distances to the centres
    gap_error: float
    silhouette: float
    generalisation: float  # Cohen's kappa of a linear classifier
    coding_rate: float  # nats an item; low is good

    @property
    def passes(self) -> bool:
        """Whether the groups hold on other items, and are stabler than those of a Gaussian beyond chance."""
        return self.prediction_strength >= HOLDS and self.excess > 2 * self.error


@dataclass(frozen=True, repr=False)
class Choice:
    """The answer: `k` and its plateau where a number stands out.

    Where none does, the plateau runs from the smallest to the largest number that is about as stable as the stablest,
    and `k` is the median of `ticks`, clipped to it.
    """

    k: int
    clear: bool
    plateau: tuple[int, int]
    curve: list[Row]
    ticks: dict[str, int]  # the number that each criterion alone would give
    levels: list[int]  # numbers of groups of FINCH's hierarchy that were among the candidates
    n: int  # items looked at
    sentence: str
    notes: list[str]

    def __repr__(self) -> str:
        return f"<Choice: {self.sentence}>"

    def as_json(self) -> dict[str, Any]:
        """Plain values, numbers with five digits."""
        curve = [{name: round(value, 5) for name, value in asdict(row).items()} for row in self.curve]
        return {**asdict(self), "plateau": list(self.plateau), "curve": curve}


def stablest(curve: Sequence[Row]) -> Row:
    """The K whose stability is furthest beyond that of a Gaussian's groups."""
    return max(curve, key=lambda row: row.excess)


def candidates(curve: Sequence[Row]) -> list[int]:
    """The K that pass, with an excess within one standard error of the largest among them.

    The largest among those that pass, not of the whole curve: two groups apart along one axis have a small excess, for
    those of the Gaussian are stable as well, and numbers that do not pass may have a larger one.
    """
    passing = [row for row in curve if row.passes]
    if not passing:
        return []
    best = stablest(passing)
    return [row.k for row in passing if row.excess >= best.excess - best.error]


def recommended(curve: Sequence[Row]) -> int | None:
    """The largest candidate, before the other criteria are asked."""
    return max(candidates(curve), default=None)


def ticks_of(curve: Sequence[Row], eigengap: int) -> dict[str, int]:
    """The number that each criterion alone would give."""
    return {
        "eigengap": eigengap,
        "silhouette": max(curve, key=lambda row: row.silhouette).k,
        "gap": _gap(curve),
        "coding rate": min(curve, key=lambda row: row.coding_rate).k,
        "stability": stablest(curve).k,
    }


def confirming(ticks: Mapping[str, int], plateau: tuple[int, int]) -> list[str]:
    """The criteria other than stability whose number lies on the plateau or is at most a quarter off."""
    low, high = plateau[0] - plateau[0] // 4, plateau[1] + plateau[1] // 4
    return [name for name, k in ticks.items() if name != "stability" and low <= k <= high]


def choice(curve: list[Row], ticks: dict[str, int], levels: list[int], n: int) -> Choice:
    """The answer for a curve, with notes for the user."""
    best, notes = recommended(curve), []
    said = sorted([*ticks.values(), *([best] if best is not None else [])])
    if said[-1] > APART * said[0]:
        notes.append(f"The criteria differ: {', '.join(f'{name} {k}' for name, k in ticks.items())}.")
    if best is None:
        return _unclear(curve, ticks, levels, n, notes)
    plateau = _plateau(curve, best)
    if len(agree := confirming(ticks, plateau)) < CONFIRMED:
        others = f"{agree[0]} alone" if agree else "no other criterion"
        notes.append(f"{best} groups hold on other items, but {others} says about as many.")
        return _unclear(curve, ticks, levels, n, notes)
    if best > STRICT_UP_TO:
        notes.append("Beyond 20 groups the prediction strength is a mean over groups, not that of the weakest.")
    if best == curve[-1].k and len(curve) > 1:
        notes.append(f"{best} is the largest number tried: there may be more.")
    also = f" ({plateau[0]}–{plateau[1]} do equally well)" if plateau[0] < plateau[1] else " (no other does as well)"
    return Choice(best, True, plateau, curve, ticks, levels, n, f"{best}{also}.", notes)


def _unclear(curve: list[Row], ticks: dict[str, int], levels: list[int], n: int, notes: list[str]) -> Choice:
    low, high = alike(curve)
    middle = sorted(ticks.values())[len(ticks) // 2]
    text = "No number of groups stands out; K is your choice. "
    best = stablest(curve)
    if best.excess <= 2 * best.error:
        text += "None is stabler than groups of a single Gaussian: there may be none at all. "
    elif low < high:
        text += f"From {low} to {high} they are about equally stable. "
    text += f"The criteria alone would say {', '.join(f'{k} ({name})' for name, k in ticks.items())}."
    return Choice(min(max(middle, low), high), False, (low, high), curve, ticks, levels, n, text, notes)


def alike(curve: Sequence[Row]) -> tuple[int, int]:
    """The range of K whose excess is the largest within the errors; the whole curve where that may be chance."""
    best = stablest(curve)
    if best.excess <= 2 * best.error:
        return curve[0].k, curve[-1].k
    near = [row.k for row in curve if row.excess + row.error >= best.excess - best.error]
    return min(near), max(near)


def _plateau(curve: Sequence[Row], best: int) -> tuple[int, int]:
    """The candidates next to the best, without a gap on the curve."""
    tried, able = [row.k for row in curve], set(candidates(curve))
    low = high = tried.index(best)
    while low > 0 and tried[low - 1] in able:
        low -= 1
    while high + 1 < len(tried) and tried[high + 1] in able:
        high += 1
    return tried[low], tried[high]


def _gap(curve: Sequence[Row]) -> int:
    """The smallest K whose gap is at least the next one's less its error (Tibshirani, Walther & Hastie 2001)."""
    for row, after in pairwise(curve):
        if row.gap >= after.gap - after.gap_error:
            return row.k
    return curve[-1].k
