"""Label-free health checks: a hopeless run stops with a reason and the next thing to try.

The thresholds are about degeneration only (one group, no group, NaN); none of them looks at quality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from coterie.common.words import whole_percent
from coterie.training.advice import Advice
from coterie.training.history import EpochRecord
from coterie.types import RunFailed

COLLAPSED_SHARE = 0.998  # of the items in one group: a group of 1 % beside one of 99 % is a result
LARGEST_LOSS = 1e6  # entropies are below 100, sums of squares over a picture's pixels below 1e6
LOST = 0.6  # share of the groups once in use from which on those that are left are told of
COLLAPSED_STD = 0.02  # of the normalised embeddings, where 1 fills the sphere


@dataclass
class Meter:
    """Running means of an epoch's losses and health numbers, and the number of items in every group."""

    sums: dict[str, float | Tensor] = field(default_factory=dict)  # tensors stay on the device until they are asked for
    counts: dict[str, int] = field(default_factory=dict)
    groups: list[int] = field(default_factory=list)
    histogram: list[int] = field(default_factory=list)  # of top-1 confidences

    def add(self, numbers: Mapping[str, Tensor | float]) -> None:
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def add_groups(self, counts: Tensor) -> None:
        self.groups = _added(self.groups, counts.tolist())

    def add_histogram(self, counts: Tensor) -> None:
        self.histogram = _added(self.histogram, counts.tolist())

    def mean(self) -> dict[str, float]:
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}

    def state(self) -> dict[str, object]:
        return {
            "sums": {name: float(total) for name, total in self.sums.items()},
            "counts": self.counts,
            "groups": self.groups,
            "histogram": self.histogram,
        }


def _added(old: list[int], new: list[int]) -> list[int]:
    return [a + b for a, b in zip(old, new, strict=True)] if old else new


def group_health(groups: list[int]) -> dict[str, float]:
    """Groups in use (with at least a tenth of an even share) and the share of the largest."""
    total = sum(groups)
    if not total:
        return {}
    used = sum(count >= 0.1 * total / len(groups) for count in groups)
    return {"groups_used": float(used), "largest_share": max(groups) / total}


def early_warning(stage: str, epoch: int, epochs: int, health: Mapping[str, float], k: int) -> str | None:
    """A sentence, once, after a tenth of a longer training, when groups are all but empty: they seldom fill again."""
    used = health.get("groups_used", k)
    if epochs < 10 or epoch != epochs // 10 or used >= k:
        return None
    return (
        f"After epoch {epoch} of {epochs} of stage {stage} only {used:.0f} of {k} groups are in use: "
        "if that stays so, start again with another seed."
    )


def lost_warning(advice: Advice, records: Sequence[EpochRecord], sizes: list[int]) -> str | None:
    """A sentence where a longer stage ends with far fewer groups in use than it had: it taught few of them.

    records: the stage's epochs, of which the first tenth is not judged. sizes: items in each group at the end.
    """
    most, best = most_in_use(records)
    left = group_health(sizes)["groups_used"]
    if left > LOST * most or not 0 < most <= len(sizes):  # a method of one's own may count other groups
        return None
    return (
        f"Stage {advice.stage} lost groups while it trained: {most:.0f} of {len(sizes)} were in use after epoch "
        f"{best}, {left:.0f} are at the end (with at least a tenth of an even share). {advice.lost_groups()}"
    )


def most_in_use(records: Sequence[EpochRecord]) -> tuple[float, int]:
    """The most groups that were in use in a longer stage, and the last epoch with so many; 0 of a short one."""
    judged = [record for record in records if len(records) >= 10 and 10 * record.epoch >= record.epochs]
    return max(((record.health.get("groups_used", 0.0), record.epoch) for record in judged), default=(0.0, 0))


def empty_warning(advice: Advice, records: Sequence[EpochRecord], sizes: list[int], *, told: bool) -> str | None:
    """A sentence about groups without an item: those that training emptied are no sign of too many groups.

    told: that groups were lost was said already.
    """
    k, empty = len(sizes), sizes.count(0)
    if not empty:
        return None
    text = f"{empty} of the {k} groups {'is' if empty == 1 else 'are'} empty"
    most, best = most_in_use(records)
    if told:
        return f"{text}."
    if k - empty < most <= k:
        return f"{text}, and {most:.0f} were in use after epoch {best}. {advice.lost_groups()}"
    return f"{text}: {advice.empty_groups()}"


def late_warning(
    advice: Advice, epoch: int, epochs: int, losses: Mapping[str, float], *, crowded: bool = False
) -> str | None:
    """A sentence, once, where a loss ends at a size at which it teaches nothing.

    crowded: a mean group has two items at most. By every other sign such a run ends well: its losses are finite, and
    its groups may be those of the first epoch.
    """
    name = max(losses, key=lambda name: abs(losses[name]), default=None)
    if epoch < epochs or name is None or abs(losses[name]) <= LARGEST_LOSS:
        return None
    tries = "Ask for fewer groups." if crowded else advice.smaller_steps()
    return (
        f"The loss {name!r} of stage {advice.stage} is {losses[name]:.1e} at the end: at such a size little or "
        f"nothing is learned, and the groups may mean nothing. {tries}"
    )


def check_losses(advice: Advice, epoch: int, losses: Mapping[str, float]) -> None:
    """Raise RunFailed for a loss that is not finite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise RunFailed(
                f"The loss {name!r} of stage {advice.stage} became {value} in epoch {epoch}.", advice.smaller_steps()
            )


def check_weights(advice: Advice, epoch: int, trained: Sequence[Tensor]) -> None:
    """Raise RunFailed for trained weights that are not finite, which the losses show only in the next step."""
    if not bool(torch.stack([weights.isfinite().all() for weights in trained]).all()):
        raise RunFailed(
            f"The weights of stage {advice.stage} are not finite after epoch {epoch}.", advice.smaller_steps()
        )


def check_epoch(advice: Advice, epoch: int, epochs: int, health: Mapping[str, float]) -> None:
    """Raise RunFailed for a run that cannot recover."""
    stage = advice.stage
    # Random weights may give one group to all items, so the first tenth of the training is not judged.
    if health.get("largest_share", 0.0) > COLLAPSED_SHARE and 10 * epoch >= epochs:
        raise RunFailed(
            f"Stage {stage} collapsed: after epoch {epoch} one group has "
            f"{whole_percent(health['largest_share'])} of the items.",
            advice.collapsed(),
        )
    # Contrastive training begins with all embeddings close together, so it is judged from half-way on.
    if health.get("embedding_std", 1.0) < COLLAPSED_STD and 2 * epoch >= epochs:
        raise RunFailed(
            f"Stage {stage} collapsed: all items get nearly the same embedding after epoch {epoch}.",
            advice.same_embedding(),
        )
    if health.get("selected", 1.0) == 0.0:
        raise RunFailed(
            f"Stage {stage} selected no item in the whole of epoch {epoch}, so nothing teaches the groups.",
            advice.nothing_selected(),
        )
