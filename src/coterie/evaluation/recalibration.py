"""Confidences corrected by a judged sample: a map of one to three parameters, checked on items it was not fitted on.

With c the confidence and q the corrected one, logit q is linear in a few functions of c:

    temperature  logit q = a logit c                    Guo et al. 2017
    platt        logit q = a logit c + b                Platt 1999
    beta         logit q = a ln c - b ln(1 - c) + c0    Kull, Silva Filho & Flach 2017; the default

with slopes of at least 0, so that the order of the items stays, and a penalty on every change, |theta - identity|² in
nats, so that few judgements change little. `isotonic` asks for some 500 judged items. The judged items
must be a uniform random sample of all items, judged without a look at their confidences.

A group that holds two classes has items of high confidence that are wrong. Only `beta` can level off below 1 for them
(b = 0), which is why it is the default: the others keep a confidence near 1 near 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, expit, log_expit

from coterie.common.arguments import whole_number
from coterie.evaluation.calibration_errors import adaptive_calibration_error_of, by_confidence, checked, truths
from coterie.evaluation.ranking import Floats, Ranking
from coterie.types import InputError

Kind = Literal["temperature", "platt", "beta", "isotonic"]
Flags = NDArray[np.bool_]

FOLDS = 5
LEAST = 20  # judged items; with fewer the penalty allows hardly any change
LEAST_ISOTONIC = 500
CLIP = 1e-4
BINS = 5  # of equal mass: more would be noise with 150 items
DRAWS = 1000
ROUNDING = 1e-9  # of a calibration error
ALIKE = 2.0**-21  # in ln p, by which float32 may tell two equal probabilities apart


@dataclass(frozen=True)
class Map:
    """A fitted map: its parameters, or of an isotonic one the corners (x, y)."""

    kind: Kind
    theta: tuple[float, ...]
    corners: tuple[tuple[float, float], ...] = ()

    def __call__(self, confidence: NDArray[np.floating]) -> Floats:
        """The corrected confidences; never 0 or 1."""
        c = np.asarray(confidence, np.float64)
        if self.kind == "isotonic":
            x, y = np.array(self.corners).T
            return np.interp(c, x, y).clip(CLIP, 1 - CLIP)
        return np.asarray(expit(_terms(self.kind, c) @ np.array(self.theta))).clip(CLIP, 1 - CLIP)


def identity(kind: Kind) -> tuple[float, ...]:
    """The parameters that change nothing."""
    return {"temperature": (1.0,), "platt": (1.0, 0.0), "beta": (1.0, 1.0, 0.0), "isotonic": ()}[kind]


def fit(kind: Kind, confidence: NDArray[np.floating], right: Flags) -> Map:
    """The map of this kind that makes the judgements likeliest, under the penalty."""
    if kind == "isotonic":
        from sklearn.isotonic import IsotonicRegression  # half of the time that a review takes to start

        found = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(confidence, right.astype(np.float64))
        corners = zip(found.X_thresholds_.tolist(), found.y_thresholds_.tolist(), strict=True)
        return Map(kind, (), tuple(corners))
    from scipy.optimize import minimize

    terms, start = _terms(kind, np.asarray(confidence, np.float64)), np.array(identity(kind))
    sign = np.where(right, 1.0, -1.0)

    def objective(theta: Floats) -> tuple[float, Floats]:
        margin, away = sign * (terms @ theta), theta - start
        slope = -(sign * expit(-margin)) @ terms
        return float(-log_expit(margin).sum() + away @ away), slope + 2 * away

    slopes = len(start) - (kind != "temperature")  # the last of the others is a constant
    bounds = [(0.0, None)] * slopes + [(None, None)] * (len(start) - slopes)
    return Map(kind, tuple(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x.tolist()))


def _terms(kind: Kind, confidence: Floats) -> Floats:
    c = confidence.clip(CLIP, 1 - CLIP)
    logit = np.log(c) - np.log1p(-c)
    if kind == "temperature":
        return logit[:, None]
    if kind == "platt":
        return np.stack([logit, np.ones(len(c))], 1)
    return np.stack([np.log(c), -np.log1p(-c), np.ones(len(c))], 1)


def cross_fitted(kind: Kind, confidence: NDArray[np.floating], right: Flags, seed: int = 0) -> Floats:
    """Each judged confidence, corrected by a map that was fitted without it, in five folds."""
    fold = np.random.default_rng(seed).permutation(len(right)) % FOLDS
    found = np.empty(len(right))
    for held in range(FOLDS):
        inside = fold == held
        found[inside] = fit(kind, confidence[~inside], right[~inside])(confidence[inside])
    return found


def log_loss(confidence: NDArray[np.floating], right: Flags) -> Floats:
    """-ln of the probability given to the judged outcome, of each item."""
    c = np.asarray(confidence, np.float64).clip(CLIP, 1 - CLIP)
    return -np.where(right, np.log(c), np.log1p(-c))


def accuracy_interval(wrong: int, judged: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of the share that is right (Clopper & Pearson 1934).

    With 7 of 150 wrong 90.6 to 98.1 % are right.
    """
    tail = (1 - 0.95) / 2
    high = 1.0 if wrong == 0 else float(1 - betaincinv(wrong, judged - wrong + 1, tail))
    low = 0.0 if wrong == judged else float(1 - betaincinv(wrong + 1, judged - wrong, 1 - tail))
    return low, high


@dataclass(frozen=True)
class Calibration:
    """How far judged confidences are off.

    `gap`: mean confidence less accuracy, with the exact interval of the accuracy. `ece`: of 5 bins of equal mass, less
    what calibrated confidences would show by chance (`by_chance`, which is much of it at 150 items); `p`: how often
    chance gives as much.
    """

    confidence: float
    accuracy: float
    gap: float
    gap_interval: tuple[float, float]
    ece: float
    by_chance: float
    p: float
    log_loss: float


def judge(confidence: NDArray[np.floating], right: Flags, seed: int = 0, draws: int = DRAWS) -> Calibration:
    """The calibration of judged confidences (m,), right (m,). The plain ECE of so few items is too biased to report."""
    c, flags = checked(confidence, right)
    low, high = accuracy_interval(int((flags == 0).sum()), len(flags))
    ranking = by_confidence(c, right)
    found = float(adaptive_calibration_error_of(ranking, BINS))
    size = (draws, len(ranking.scores))
    drawn = (
        np.random.default_rng(seed).binomial(ranking.counts.astype(np.int64), ranking.scores, size).astype(np.float64)
    )
    chance = adaptive_calibration_error_of(Ranking(ranking.scores, np.broadcast_to(ranking.counts, size), drawn), BINS)
    mean, share = float(c.mean()), float(flags.mean())
    return Calibration(
        confidence=mean,
        accuracy=share,
        gap=mean - share,
        gap_interval=(mean - high, mean - low),
        ece=found - float(chance.mean()),
        by_chance=float(chance.mean()),
        # Of few distinct confidences chance often gives just as much, and sums in another order round differently.
        p=float((1 + (chance >= found - ROUNDING).sum()) / (1 + draws)),
        log_loss=float(log_loss(c, right).mean()),
    )


@dataclass(frozen=True)
class Recalibration:
    """The map fitted on all judged items, how far off they are before and, cross-fitted, after; whether it helps."""

    map: Map
    judged: int
    wrong: int
    before: Calibration
    after: Calibration
    gain: float  # log loss before less after, nats an item
    gain_error: float  # its standard error
    helps: bool  # by more than one standard error

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def recalibrate(
    confidence: NDArray[np.floating], right: ArrayLike, kind: Kind = "beta", seed: int = 0
) -> Recalibration:
    """Fit and check a map on judged confidences (m,). Raises InputError for too few judged items."""
    if not isinstance(kind, str) or kind not in get_args(Kind):
        raise InputError(f"There is no map {kind!r}: give {', '.join(get_args(Kind))}.")
    flags, seed = np.atleast_1d(truths(right)), whole_number(seed, "seed", 0, 2**63 - 1)
    least = LEAST_ISOTONIC if kind == "isotonic" else LEAST
    if len(flags) < least:
        more = f"judge {least - len(flags)} more" + (", or take another map" if kind == "isotonic" else "")
        raise InputError(f"Only {len(flags)} items are judged, but the map {kind} takes at least {least}: {more}.")
    values = checked(confidence, flags)[0]
    after = cross_fitted(kind, values, flags, seed)
    gains = log_loss(values, flags) - log_loss(after, flags)
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))
    return Recalibration(
        map=fit(kind, values, flags),
        judged=len(flags),
        wrong=int((~flags).sum()),
        before=judge(values, flags, seed),
        after=judge(after, flags, seed),
        gain=gain,
        gain_error=error,
        helps=gain > error,
    )


def with_confidence(probabilities: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows (n, k) brought to these top probabilities by a temperature each: softmax(ln p / T_i); the group stays.

    z = (2, 1, 0) reaches .9 at T = .4360. A row whose two largest are equal (to 5e-7 of them) reaches at most 1/2 and
    stays as it is; targets are kept between 1/k and 1.
    """
    p = np.asarray(probabilities, np.float64)
    n, k = p.shape
    z = np.log(np.maximum(p, 1e-30))
    z -= z.max(1, keepdims=True)
    goal = np.clip(np.asarray(target, np.float64), 1 / k + CLIP / k, 1 - CLIP)
    low, high = np.full(n, -20.0), np.full(n, 12.0)  # ln T
    for _ in range(60):
        middle = (low + high) / 2
        top = 1 / np.exp(z * np.exp(-middle)[:, None]).sum(1)
        low, high = np.where(top > goal, middle, low), np.where(top > goal, high, middle)
    found = np.exp(z * np.exp(-(low + high) / 2)[:, None])
    answer = (found / found.sum(1, keepdims=True)).astype(np.float32)
    tied = (np.partition(z, -2, axis=1)[:, -2] > -ALIKE) | (answer.argmax(1) != p.argmax(1))
    answer[tied] = p[tied]
    return answer
