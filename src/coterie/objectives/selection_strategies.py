"""Interchangeable selection strategies: each looks at a batch, updates its state, and selects the items that teach.

The state between batches is in buffers, so that a checkpoint holds it. All of them get the whole batch, of all
processes, without gradient, and may select nothing. The formulas are in `selection_formulas`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from coterie.objectives.selection_formulas import (
    above,
    agreement,
    confident_images,
    flexmatch_thresholds,
    freematch_thresholds,
    joined,
    last_layer_gradients,
    proximity,
    sums_by_group,
)

KEEP = 0.7  # weight of a group's old direction or prototype when a batch updates it (GSF, PPF)
LEAST_AGREEMENT = 0.95  # GSF


@dataclass(frozen=True)
class WeakAnswers:
    """The selecting head's answers on a batch's weak views: the input of a strategy."""

    p: Float[Tensor, "n k"]
    index: Int[Tensor, " n"]  # the items' rows in the source
    features: Float[Tensor, "n d"]  # what the head was given
    weights: Float[Tensor, "k h"]  # of the head's last layer
    epoch: int


class Chosen(NamedTuple):
    """The selected items, and label-free numbers for the history."""

    keep: Bool[Tensor, " n"]
    numbers: dict[str, Tensor]


class Quota(nn.Module):
    """CDC's own: each group's surest images, fewer where the group is unsure (Eq. 4)."""

    def __init__(self, *, match_label: bool) -> None:
        super().__init__()
        self.match_label = match_label

    def forward(self, seen: WeakAnswers) -> Chosen:
        return Chosen(confident_images(seen.p, match_label=self.match_label), {})


class Fixed(nn.Module):
    """All items above one confidence."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, seen: WeakAnswers) -> Chosen:
        return Chosen(seen.p.amax(1) > self.threshold, {})


class FlexMatch(nn.Module):
    """Thresholds by group that rise with the number of its sure items; 4 bytes an item."""

    remembered: Tensor

    def __init__(self, k: int, threshold: float) -> None:
        super().__init__()
        self.k, self.threshold = k, threshold
        self.register_buffer("remembered", torch.empty(0, dtype=torch.int32))

    def begin(self, n: int) -> None:
        """Allocate the table for the n items of the source; none has been sure so far."""
        self.remembered = torch.full((n,), -1, dtype=torch.int32, device=self.remembered.device)

    def forward(self, seen: WeakAnswers) -> Chosen:
        thresholds = flexmatch_thresholds(self.remembered, self.k, self.threshold)
        keep = above(seen.p, thresholds)
        confidence, label = seen.p.max(1)  # remembered after the selection, as in the authors' code
        sure = confidence >= self.threshold
        self.remembered[seen.index[sure]] = label[sure].to(self.remembered.dtype)
        numbers = {"threshold_low": thresholds.min(), "threshold_high": thresholds.max()}
        return Chosen(keep, {**numbers, "remembered": (self.remembered >= 0).float().mean()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # `begin` is not called when resuming: take the checkpoint's length.
        self.begin(len(state_dict.get(f"{prefix}remembered", self.remembered)))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class FreeMatch(nn.Module):
    """Thresholds by group from running means of the confidence and the probabilities."""

    confidence: Tensor
    share: Tensor

    def __init__(self, k: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("confidence", torch.tensor(1 / k))
        self.register_buffer("share", torch.full((k,), 1 / k))

    def forward(self, seen: WeakAnswers) -> Chosen:
        self.confidence.lerp_(seen.p.amax(1).mean(), 1 - self.decay)
        self.share.lerp_(seen.p.mean(0), 1 - self.decay)
        thresholds = freematch_thresholds(self.confidence, self.share)
        return Chosen(
            above(seen.p, thresholds), {"threshold_low": thresholds.min(), "threshold_high": thresholds.max()}
        )


class GroupMemory(nn.Module):
    """A row for each group, the moving average of the batches' rows; groups that a batch lacks keep theirs."""

    rows: Tensor
    known: Tensor

    def __init__(self, k: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(k, width))
        self.register_buffer("known", torch.zeros(k, dtype=torch.bool))

    def follow(self, fresh: Float[Tensor, "k d"], present: Bool[Tensor, " k"]) -> None:
        """Move the rows of the groups that are present towards the fresh ones."""
        keep = torch.where(self.known, KEEP, 0.0)[:, None]  # a group's first row is taken as it is
        self.rows.copy_(torch.where(present[:, None], keep * self.rows + (1 - keep) * fresh, self.rows))
        self.known |= present

    def forget(self) -> None:
        self.rows.zero_()
        self.known.zero_()


class GradientFilter(nn.Module):
    """GSF on top of CDC's selection: less sure images join if their gradient points in their group's direction.

    The directions are forgotten when an epoch ends.
    """

    epoch: Tensor

    def __init__(self, k: int, hidden: int, lowest: float, *, match_label: bool) -> None:
        super().__init__()
        self.k, self.lowest, self.match_label = k, lowest, match_label
        self.directions = GroupMemory(k, hidden)
        self.register_buffer("epoch", torch.tensor(0))

    def forward(self, seen: WeakAnswers) -> Chosen:
        """The confident images, and those that agree with their group's direction, which follows the first."""
        if int(self.epoch) != seen.epoch:
            self.directions.forget()
            self.epoch.fill_(seen.epoch)
        confident = confident_images(seen.p, match_label=self.match_label)
        label, gradients = seen.p.argmax(1), last_layer_gradients(seen.p, seen.weights)
        sums, counts = sums_by_group(gradients, label, confident, self.k)
        self.directions.follow(sums, counts > 0)
        score = agreement(gradients, label, self.directions.rows)
        keep = joined(seen.p, confident, score, LEAST_AGREEMENT, self.lowest)
        return Chosen(keep, {"joined": (keep & ~confident).float().mean()})


class ProximityFilter(nn.Module):
    """PPF on top of CDC's selection: less sure images join if they are near enough to their group's prototype.

    Near enough means as near as the farthest selected ones: the least score follows the lowest among them.
    """

    least: Tensor

    def __init__(self, k: int, width: int, lowest: float, *, match_label: bool) -> None:
        super().__init__()
        self.k, self.lowest, self.match_label = k, lowest, match_label
        self.prototypes = GroupMemory(k, width)
        self.register_buffer("least", torch.tensor(1.0))

    def forward(self, seen: WeakAnswers) -> Chosen:
        """The confident images, and those near enough to their group's prototype, which follows the first."""
        confident = confident_images(seen.p, match_label=self.match_label)
        label, begun = seen.p.argmax(1), self.prototypes.known.any()
        sums, counts = sums_by_group(seen.features, label, confident, self.k)
        self.prototypes.follow(sums / counts.clamp(min=1)[:, None], counts > 0)
        score = proximity(seen.features, label, self.prototypes.rows) * self.prototypes.known[label]
        farthest = torch.where(confident, score, torch.inf).min()
        least = torch.where(begun, KEEP * self.least + (1 - KEEP) * farthest, farthest)
        self.least.copy_(torch.where(confident.any(), least, self.least))
        keep = joined(seen.p, confident, score, self.least, self.lowest)
        return Chosen(keep, {"joined": (keep & ~confident).float().mean(), "least_proximity": self.least.clone()})
