"""Audits: a sample is fixed, a person judges it, and only at the end the result is shown.

An audit is about the labels at its draw, of all items that had a group. Renaming, merging (which turns only wrong into
right) and a person's corrections of single items, which count as right, leave its claim standing; what moves items that
nobody looked at voids it. Judged items are corrected only after the end, and never enter the audit's own count.

With m audits on one run each takes its share of the error of the level, 1 - (1 - level) / m, so that all claims hold
together (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from coterie.evaluation import accept
from coterie.review.events import Draw, Judge

BAND = 20  # thresholds at which the band of the accept slider holds together


class GroupJudged(TypedDict):
    """Of one group: how many were judged, how many of them wrong, and the bound on its share of wrong ones."""

    group: int
    judged: int
    wrong: int
    bound: float


class BandStep(TypedDict):
    """A threshold of the band; lower and upper bound the error of what it accepts."""

    threshold: float
    accepted: int
    judged: int
    wrong: int
    upper: float


@dataclass
class AuditState:
    """One audit as the log has it. Without `labels` it was undone, and only counts in the division of the level."""

    draw: Draw
    seq: int
    labels: NDArray[np.int32]
    columns: int  # how many changes of the probabilities' columns came before it
    judged: dict[int, Judge] = field(default_factory=dict)
    ended: int | None = None
    voided: str | None = None
    _sample: NDArray[np.int64] | None = None

    @classmethod
    def discarded(cls, audit: int) -> AuditState:
        draw = Draw(audit=audit, size=1, seed=0, max_error=0.5, level=0.95)
        return cls(draw, -1, np.empty(0, np.int32), 0, voided="it was undone after something of it had been judged")

    @property
    def frame(self) -> NDArray[np.int64]:
        """The items that the audit is about."""
        return np.flatnonzero(self.labels >= 0)

    @property
    def sample(self) -> NDArray[np.int64]:
        """The drawn items in the order in which they are judged."""
        if self._sample is None:
            frame = self.frame
            found = frame[accept.draw_sample(len(frame), self.draw.size, self.draw.seed)] if len(frame) else frame
            self._sample = found
        return self._sample

    @property
    def next_place(self) -> int:
        """The place in the sample of the next item to judge: all before it are judged."""
        place = 0
        for row in self.sample.tolist():
            if row not in self.judged:
                break
            place += 1
        return place

    def counted(self) -> list[tuple[int, Judge]]:
        """The judgements that count: the first of the sample, up to the first that is missing."""
        return [(row, self.judged[row]) for row in self.sample[: self.next_place].tolist()]


@dataclass(frozen=True)
class Claim:
    """What an ended audit shows. `audit` is None where too few were judged."""

    number: int
    max_error: float
    level: float  # of all audits of this run together
    own_level: float  # of this one
    judged: int
    wrong: int
    unsure: int
    mean_confidence: float
    found: accept.Audit | None
    too_few: int  # how many more judgements it takes at least
    groups: list[GroupJudged]
    band: list[BandStep]
    voided: str | None

    @property
    def threshold(self) -> float | None:
        """The threshold from which items may be accepted; None where none may."""
        return self.found.chosen.threshold if self.found and self.found.chosen and not self.voided else None


def own_level(level: float, audits: int) -> float:
    """The level of each of several audits so that all of them hold together: two at 95 % take 97.5 % each."""
    return 1 - (1 - level) / max(1, audits)


def claim_of(state: AuditState, confidence: NDArray[np.floating], audits: int) -> Claim:
    """The claim of an ended audit. confidence (n,): of the labels at its draw; `audits`: how many the run has had."""
    level, draw, frame = own_level(state.draw.level, audits), state.draw, state.frame
    counted = state.counted()
    rows = np.array([row for row, _ in counted], np.int64)
    right = np.array([judgement.answer == "right" for _, judgement in counted], bool)
    values, places = np.asarray(confidence, np.float64)[frame], np.searchsorted(frame, rows)
    needed = accept.judged_needed(draw.max_error, level)
    found = accept.audit(values, places, right, draw.max_error, level) if len(rows) >= needed else None
    return Claim(
        draw.audit,
        draw.max_error,
        draw.level,
        level,
        len(rows),
        int((~right).sum()),
        sum(judgement.answer == "unsure" for _, judgement in counted),
        float(values[places].mean()) if len(rows) else 0.0,
        found,
        max(0, needed - len(rows)),
        _by_group(state.labels[rows], right, draw.level),
        _band(values, places, right, draw.level),
        state.voided,
    )


def plan(confidence: NDArray[np.floating], size: int, max_error: float, level: float) -> dict[str, float | int | None]:
    """What a sample of this size can show, before anything is drawn: the strictest set tried and the errors it allows.

    `coverage`: the share of all items in the first set that is tried, `expected`: judged items to be expected in it,
    `allowed`: how many of them may be wrong. All None where so few can show nothing.
    """
    values = np.asarray(confidence, np.float64)
    needed = accept.judged_needed(max_error, level)
    if size < needed:
        return {"needed": needed, "coverage": None, "expected": None, "allowed": None}
    first = accept.threshold_grid(values, size, max_error, level)[0]
    share = float((values >= first).mean())
    expected = round(size * share)
    allowed = -1
    while expected and accept.error_bound(allowed + 1, expected, level) <= max_error:
        allowed += 1
    return {"needed": needed, "coverage": share, "expected": expected, "allowed": allowed if allowed >= 0 else None}


def _by_group(labels: NDArray[np.integer], right: NDArray[np.bool_], level: float) -> list[GroupJudged]:
    rows = []
    for group in np.unique(labels).tolist():
        inside = labels == group
        judged, wrong = int(inside.sum()), int((~right[inside]).sum())
        bound = accept.error_bound(wrong, judged, level)
        rows.append(GroupJudged(group=group, judged=judged, wrong=wrong, bound=bound))
    return rows


def _band(
    values: NDArray[np.float64], places: NDArray[np.int64], right: NDArray[np.bool_], level: float
) -> list[BandStep]:
    """Bounds that hold at all 20 thresholds of the slider together, each at the level 1 - (1 - level) / 20."""
    if not len(places):
        return []
    order = np.sort(values)[::-1]
    thresholds = np.unique(order[-(-np.arange(1, BAND + 1) * len(order) // BAND) - 1])[::-1]
    steps = []
    for threshold in thresholds.tolist():
        inside = values[places] >= threshold
        judged, wrong = int(inside.sum()), int((~right[inside]).sum())
        upper = accept.error_bound(wrong, judged, own_level(level, BAND))
        accepted = int((values >= threshold).sum())
        steps.append(BandStep(threshold=threshold, accepted=accepted, judged=judged, wrong=wrong, upper=upper))
    return steps
