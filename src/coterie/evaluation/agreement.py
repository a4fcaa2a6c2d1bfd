"""How far two partitions agree, whatever their groups are called: purity, NMI, ARI. No matching is needed.

All take `labels_true` (n,) and `labels_pred` (n,), and raise InputError, as `contingency` does.
Each has a form of contingency tables (`..._of`), which bootstrap intervals use: they resample the table, not the items,
and take many tables at once. scikit-learn has NMI and ARI of labels only; it is the oracle of the tests.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from scipy.special import entr, rel_entr

from coterie.evaluation.contingency import Given, Ints, contingency
from coterie.evaluation.ranking import Floats, ratio
from coterie.types import InputError

Average = Literal["arithmetic", "geometric"]


def purity(labels_true: Given, labels_pred: Given) -> float:
    """Share of items in the largest class of their cluster: sum_j max_c counts[j, c] / n (Manning et al. 2008, 16.3).

    Several clusters may share a class, so it is never below the accuracy and reaches 1 with one item per cluster.

    >>> from coterie.evaluation import purity
    >>> purity([0, 0, 1, 1], [0, 0, 0, 1])
    0.75
    """
    return float(purity_of(contingency(labels_true, labels_pred)))


def nmi(labels_true: Given, labels_pred: Given, average: Average = "arithmetic") -> float:
    """Mutual information over a mean of both entropies: I(T;P) / ((H(T) + H(P)) / 2), or / sqrt(H(T) H(P)).

    Papers before scikit-learn 0.22 mostly took the geometric mean, which is never smaller than the arithmetic value.

    >>> from coterie.evaluation import nmi
    >>> round(nmi([0, 0, 1, 1], [1, 1, 0, 0]), 4), nmi([0, 0, 1, 1], [0, 0, 0, 0])
    (1.0, 0.0)
    """
    return float(nmi_of(contingency(labels_true, labels_pred), average))


def ari(labels_true: Given, labels_pred: Given) -> float:
    """Rand index corrected for chance: 0 for random labels, 1 for the same partition (Hubert & Arabie 1985).

    >>> from coterie.evaluation import ari
    >>> ari([0, 0, 1, 1], [1, 1, 0, 0]), round(ari([0, 0, 1, 1], [0, 1, 0, 1]), 4)
    (1.0, -0.5)
    """
    return float(ari_of(contingency(labels_true, labels_pred)))


def purity_of(counts: Ints) -> Floats:
    """`purity` of contingency tables (..., k, c)."""
    return np.asarray(counts.max(axis=-1).sum(axis=-1) / counts.sum(axis=(-2, -1)))


def nmi_of(counts: Ints, average: Average = "arithmetic") -> Floats:
    """`nmi` of contingency tables (..., k, c): 1 where both partitions are the same, 0 where only one is one group.

    Raises InputError for another average.
    """
    if average not in get_args(Average):
        raise InputError(f"average is {repr(average)[:80]}: it takes 'arithmetic' or 'geometric'.")
    joint = counts / counts.sum(axis=(-2, -1), keepdims=True)
    p_pred, p_true = joint.sum(axis=-1), joint.sum(axis=-2)
    h_pred, h_true = (np.maximum(entr(p).sum(axis=-1), 0) for p in (p_pred, p_true))  # rounding gives one group -1e-17
    information = rel_entr(joint, p_pred[..., :, None] * p_true[..., None, :]).sum(axis=(-2, -1))
    # A rounding error divided by an entropy of zero could be any number.
    information = np.where(information > 1e-14, information, 0)
    mean = (h_pred + h_true) / 2 if average == "arithmetic" else np.sqrt(h_pred * h_true)
    # Also one group in both. Rounding would give 1 - 1e-16, which is printed as what is not just 1.
    same = (np.array([(counts > 0).sum(axis=axis).max(axis=-1) for axis in (-1, -2)]) == 1).all(axis=0)
    return np.where(same, 1.0, ratio(information, mean, undefined=0).clip(max=1))


def ari_of(counts: Ints) -> Floats:
    """`ari` of contingency tables (..., k, c): (pairs together in both - expected) / (mean of both - expected)."""
    both = _pairs(counts).sum(axis=(-2, -1))
    in_pred, in_true = (_pairs(counts.sum(axis=axis)).sum(axis=-1) for axis in (-1, -2))
    expected = ratio(in_pred * in_true, _pairs(counts.sum(axis=(-2, -1))), undefined=0)
    same = (in_pred == in_true) & (in_pred == both)  # also one group, or single items, in both
    return np.where(same, 1.0, ratio(both - expected, (in_pred + in_true) / 2 - expected, undefined=1))


def _pairs(sizes: Any) -> Any:
    """Number of pairs within each group (an array, or a NumPy scalar for one).

    In float64, for products of two such numbers exceed 64-bit integers.
    """
    n = np.asarray(sizes, dtype=np.float64)
    return n * (n - 1) / 2
