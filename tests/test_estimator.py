from __future__ import annotations

import sklearn
from sklearn.utils.estimator_checks import parametrize_with_checks

from coterie import Clusterer


@parametrize_with_checks([Clusterer()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
