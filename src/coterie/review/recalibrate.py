"""Confidences after an audit: logit c' = a + b logit c, fitted to the judged items, checked on those left out.

Platt's scaling with a pull towards no change, a² + (b - 1)², so that few judgements change little. It alters neither
labels nor their order, since b > 0, nor the accept sets: it is a column of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
LEAST = 20  # judged items; fewer say nothing that the penalty would let through


@dataclass(frozen=True)
class Recalibration:
    """The map and the log-loss (nats an item) of the judged items before and, each by a map that lacked it, after."""

    a: float
    b: float
    before: float
    after: float

    def __call__(self, confidence: NDArray[np.floating]) -> NDArray[np.float64]:
        return _expit(self.a + self.b * _logit(confidence))


def recalibration(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Recalibration | None:
    """The map of the judged items' confidences (m,) and whether each is right; None for fewer than 20."""
    if len(right) < LEAST:
        return None
    x, fold = _logit(confidence), np.arange(len(right)) % FOLDS
    losses = np.empty(len(right))
    for held in range(FOLDS):
        a, b = _fit(x[fold != held], right[fold != held])
        losses[fold == held] = _loss(a + b * x[fold == held], right[fold == held])
    a, b = _fit(x, right)
    return Recalibration(a, b, float(_loss(x, right).mean()), float(losses.mean()))


def _fit(x: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[float, float]:
    from scipy.optimize import minimize

    def objective(theta: NDArray[np.float64]) -> float:
        a, b = theta[0], np.exp(theta[1])  # b > 0
        return float(_loss(a + b * x, right).sum() + a**2 + (b - 1) ** 2)

    found = minimize(objective, np.zeros(2), method="BFGS").x
    return float(found[0]), float(np.exp(found[1]))


def _loss(z: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.logaddexp(0, np.where(right, -z, z))


def _logit(confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    c = np.clip(np.asarray(confidence, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(c) - np.log1p(-c))


def _expit(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-z)))
