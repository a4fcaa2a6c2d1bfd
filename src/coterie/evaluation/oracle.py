"""ORACLE: what true labels would make of the confidences. A yardstick for label-free calibration, never a result.

Temperature scaling, Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. Label-free
methods cannot use it, since its temperature is fitted to labels; tables that show it must say so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from coterie.common.arguments import array_from, numbers_from
from coterie.evaluation.matching import match
from coterie.types import InputError

SMALLEST = 1e-12  # smaller probabilities count as this one, so that a logarithm exists
RANGE = (1e-2, 1e3)  # of the temperature


def oracle_temperature(labels_true: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """The temperature T > 0 with the lowest mean of -log softmax(log p / T) at the true labels.

    Groups are matched to classes first (Hungarian). Above 1 the probabilities are too sure, below 1 not sure enough.
    Raises InputError where there are not as many groups as classes: an item whose class has no group has no
    probability of being right.
    """
    given = numbers_from(probabilities, "probabilities")
    if given.ndim != 2:
        raise InputError(
            f"The probabilities have the shape {given.shape}: give one row per item, one column per group."
        )
    true, k = array_from(labels_true, "labels_true"), given.shape[1]
    if true.ndim == 1 and len(true) and int(true.max()) >= k:
        raise InputError(
            f"There are {int(true.max()) + 1} classes for {k} groups: temperature scaling needs a group for each class."
        )
    group_of = match(true, given.argmax(1), k, k).cluster_of()
    assert group_of is not None  # as many groups as classes
    logits, wanted = np.log(given.clip(SMALLEST)), group_of[true]

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(true)), wanted].mean())

    low, high = np.log(RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def at_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """softmax(log p / T): the same order of groups in each row, flatter for T above 1."""
    scaled: NDArray[np.float64] = softmax(
        np.log(np.asarray(probabilities, dtype=np.float64).clip(SMALLEST)) / temperature, axis=1
    )
    return scaled
