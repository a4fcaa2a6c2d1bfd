"""Whether what a method answers are probabilities of these items and groups: a wrong shape or a NaN must not pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from coterie.contract import Method
from coterie.types import InputError, RunFailed

ROUNDING = 1e-2  # of sums of many probabilities, maybe in bfloat16


def check_answers(method: Method, heads: Mapping[str, Tensor], n: int, k: int) -> None:
    """Raise InputError unless there is a head and each has a row for every item and a column for every group."""
    kind = type(method).__name__
    if not heads:
        raise InputError(f"`logits` or `predict` of {kind} gave no head: it must give at least one, (n, {k}).")
    for name, p in heads.items():
        if p.shape != (n, k):
            raise InputError(
                f"`logits` or `predict` of {kind} gave {name} with the shape {tuple(p.shape)} for {n} items and {k} "
                f"groups: it must give ({n}, {k})."
            )
        if (wrong := (p.sum(1) - 1).abs().maximum(-p.amin(1)) > ROUNDING).any():  # NaN is not: `check_numbers` says it
            row = p[int(wrong.float().argmax())]
            raise InputError(
                f"`predict` of {kind} gave {name} with a row from {float(row.min()):.3g} to {float(row.max()):.3g} and "
                f"the sum {float(row.sum()):.3g}: it must give probabilities, which sum to 1; `logits` may give others."
            )


def check_numbers(p: Tensor, ids: Sequence[str], first: int) -> None:
    """Raise RunFailed for rows, those of the items from `first` on, that hold NaN or an infinite number."""
    wrong = torch.nonzero(~torch.isfinite(p).all(1)).flatten()
    if len(wrong):
        others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise RunFailed(
            f"The probabilities of item {ids[first + int(wrong[0])]}{others} are no numbers.",
            "Look whether those items lie far outside what the run was fitted on, or fit with a lower learning rate "
            "or --precision fp32.",
        )
