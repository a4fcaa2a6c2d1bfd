"""Factors over the course of a training, as functions of the share of it that is done (0 to 1)."""

from __future__ import annotations

import math


def parts_done(progress: float, parts: int) -> int:
    """How many of so many equal parts of a training, such as its epochs, are behind it.

    progress is the number of steps done over that of all, so that at the first step of a part the product can lie a
    rounding error below a whole number.
    """
    return int(progress * parts + 1e-6)


def warm_up_cosine(progress: float, warm_up: float, first: float) -> float:
    """Linear from `first` to 1 over the share `warm_up`, then a cosine to 0 at the last step."""
    if progress < warm_up:
        return first + (1 - first) * progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def rising_cosine(progress: float, start: float, end: float) -> float:
    """From `start` to `end` along a cosine: the momentum of a teacher (BYOL, and MoCo as CDC trains it)."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


def unhurried_cosine(progress: float, warm_up: float) -> float:
    """Linear from 0 to 1 over the share `warm_up`, then a cosine as long as the whole training, which ends above 0.

    ProPos and CoNR: with 50 of 1000 epochs of warm-up the last step has 0.6 % of the rate.
    """
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up)))
