"""Calibrated confidence for any finished clustering: a head on fixed features, trained as a stage like any other.

May not live here: the loop, and metrics (`evaluation`), which see true labels.
"""

from coterie.calibration.head import calibration_head, keep_groups
from coterie.calibration.post_hoc import PostHoc, calibration_net
from coterie.calibration.settings import Calibration, practical_calibration

__all__ = [
    "Calibration",
    "PostHoc",
    "calibration_head",
    "calibration_net",
    "keep_groups",
    "practical_calibration",
]
