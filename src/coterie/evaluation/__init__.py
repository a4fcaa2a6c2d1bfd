"""Stage 8: how good a result is, measured with true labels. Plain functions of NumPy arrays; fractions of 1 throughout.

- `matching`: which class a cluster stands for (Hungarian), and the numbers that compare two labellings
- `calibration`: does a confidence of 0.8 mean right 8 times out of 10
- `rejection`: does the confidence put the wrong ones last
- `overall`: `evaluate`, all of it as one JSON-able dict

May not live here: torch, training, anything that hands a label back to an earlier stage.
"""

from coterie.evaluation.calibration import (
    adaptive_calibration_error,
    calibration_error,
    debiased_calibration_error,
    overconfidence,
    reliability,
)
from coterie.evaluation.matching import Matching, accuracy, ari, f1_macro, match, nmi, purity
from coterie.evaluation.overall import evaluate
from coterie.evaluation.rejection import acceptance, aurc, auroc, fpr95

__all__ = [
    "Matching",
    "acceptance",
    "accuracy",
    "adaptive_calibration_error",
    "ari",
    "aurc",
    "auroc",
    "calibration_error",
    "debiased_calibration_error",
    "evaluate",
    "f1_macro",
    "fpr95",
    "match",
    "nmi",
    "overconfidence",
    "purity",
    "reliability",
]
