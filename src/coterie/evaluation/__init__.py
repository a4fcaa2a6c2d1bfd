"""Stage 8: how good a result is, with true labels or, where it says so, without them.

Plain functions of NumPy arrays; fractions of 1 throughout.

- `contingency`: the table of clusters by classes; `agreement`: purity, NMI, ARI from it
- `matching`: which class a cluster stands for (Hungarian), and accuracy, F1 after that
- `calibration_errors`: does a confidence of 0.8 mean right 8 times out of 10
- `probability_rows`: the same for whole rows: Brier, NLL, class-wise
- `rejection`: does the confidence put the wrong items last; `separation`: does a score put foreign items last;
  `ranking`: what both have in common
- `accept`: which items may be accepted at a stated error, by their confidences or by a judged sample
- `recalibration`: confidences corrected by a judged sample; `oracle`: what true labels would make of them
- `intervals`: bootstrap intervals
- `clusters`: each cluster by itself
- `number_of_groups`: how many groups, without labels; `stability`, `group_criteria`: its criteria; `group_rule`: what
  follows from them
- `trust`: which of several runs to trust, without labels; `ensemble`: several runs as one
- `near_duplicates`: items nearer to each other than chance explains
- `overall`: `evaluate`, all of it as one JSON-able dict

May not live here: torch, training, anything that hands a label back to an earlier stage.
"""

from coterie.evaluation.agreement import ari, nmi, purity
from coterie.evaluation.calibration_errors import (
    adaptive_calibration_error,
    calibration_error,
    debiased_calibration_error,
    maximum_calibration_error,
    overconfidence,
    reliability,
    root_mean_squared_calibration_error,
    squared_calibration_error,
)
from coterie.evaluation.contingency import contingency
from coterie.evaluation.intervals import bootstrap, bootstrap_counts, bootstrap_ranking
from coterie.evaluation.matching import (
    Matching,
    accuracy,
    balanced_accuracy,
    f1_macro,
    f1_micro,
    held_out_accuracy,
    match,
)
from coterie.evaluation.overall import evaluate
from coterie.evaluation.probability_rows import brier, classwise_calibration_error, nll
from coterie.evaluation.rejection import (
    acceptance,
    augrc,
    aupr_error,
    aupr_success,
    aurc,
    auroc,
    e_aurc,
    fpr95,
    risk_coverage,
)
from coterie.evaluation.separation import (
    evaluate_separation,
    separation_aupr_in,
    separation_aupr_out,
    separation_auroc,
    separation_fpr95,
)

__all__ = [
    "Matching",
    "acceptance",
    "accuracy",
    "adaptive_calibration_error",
    "ari",
    "augrc",
    "aupr_error",
    "aupr_success",
    "aurc",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "bootstrap_counts",
    "bootstrap_ranking",
    "brier",
    "calibration_error",
    "classwise_calibration_error",
    "contingency",
    "debiased_calibration_error",
    "e_aurc",
    "evaluate",
    "evaluate_separation",
    "f1_macro",
    "f1_micro",
    "fpr95",
    "held_out_accuracy",
    "match",
    "maximum_calibration_error",
    "nll",
    "nmi",
    "overconfidence",
    "purity",
    "reliability",
    "risk_coverage",
    "root_mean_squared_calibration_error",
    "separation_aupr_in",
    "separation_aupr_out",
    "separation_auroc",
    "separation_fpr95",
    "squared_calibration_error",
]
