"""LARS as the self-supervised methods use it: every weight tensor has its own rate, biases and norms the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from timm.optim.lars import Lars


def lars(
    trained: Sequence[nn.Parameter], rate: float, weight_decay: float, trust: float, *, clip: bool = False
) -> Lars:
    """A weight's gradient times η‖w‖ / (‖g‖ + λ‖w‖), η being `trust`; vectors get neither this ratio nor decay.

    With `clip` the ratio is min(ratio / rate, 1), as in apex' LARC: no step is larger than the plain one.
    """
    from timm.optim.lars import Lars  # 3 s of imports, which a run that takes no net of timm's can spare

    groups = [
        # Without `always_adapt` timm leaves the ratio out where there is no decay.
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay, "always_adapt": True},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return Lars(groups, rate, momentum=0.9, trust_coeff=trust, trust_clip=clip)
