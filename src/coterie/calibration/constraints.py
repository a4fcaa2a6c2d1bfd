"""What people said about single items, as constants of a calibration head: its loss and its targets.

The items of a mini-cluster share a target as in post-hoc calibration (Jia et al., ICLR 2025, Eq. 1), but an item whose
group is fixed counts ten times and with its group for certain, so that a correction reaches its neighbours. Beside it
stand the cross-entropy of fixed items, and that of pairs and of groups an item is not in, by the probability that a
pair is in one group, ⟨p_i, p_j⟩ (Hsu et al., "Multi-class Classification without Multi-class Labels", ICLR 2019).

May not live here: where the judgements come from. Only the calibration stage and a review's refit see them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from coterie.objectives.mini_clusters import cell_means, means_by_cell

FIXED, NOT, PAIR = 1.0, 0.5, 0.5  # weights of the three kinds of judgement in the loss
COUNTS = 10.0  # a fixed item in the target of its mini-cluster, against 1 of any other
SMALLEST = 1e-6  # of a probability whose logarithm is taken
CONSTRAINED = 64  # constrained items of one step


def _none() -> Int[Tensor, " m"]:
    return torch.empty(0, dtype=torch.int64)


def _no_pairs() -> Int[Tensor, "m 2"]:
    return torch.empty((0, 2), dtype=torch.int64)


@dataclass(frozen=True)
class Constraints:
    """Rows whose group is known, rows with a group they are not in, pairs of rows in one group and in two."""

    rows: Int[Tensor, " f"] = field(default_factory=_none)
    groups: Int[Tensor, " f"] = field(default_factory=_none)
    not_rows: Int[Tensor, " m"] = field(default_factory=_none)
    not_groups: Int[Tensor, " m"] = field(default_factory=_none)
    together: Int[Tensor, "p 2"] = field(default_factory=_no_pairs)
    apart: Int[Tensor, "c 2"] = field(default_factory=_no_pairs)

    def some(self, most: int, generator: torch.Generator) -> Constraints:
        """At most `most` rows, drawn at random, with each kind in proportion."""
        kinds = [len(self.rows), len(self.not_rows), 2 * len(self.together), 2 * len(self.apart)]
        share = min(1.0, most / max(1, sum(kinds)))

        def drawn(count: int, width: int) -> Tensor:
            wanted = min(count, max(1, int(share * count * width) // width)) if count else 0
            return torch.randperm(count, generator=generator)[:wanted]

        fixed, others = drawn(len(self.rows), 1), drawn(len(self.not_rows), 1)
        same, different = drawn(len(self.together), 2), drawn(len(self.apart), 2)
        return Constraints(
            self.rows[fixed],
            self.groups[fixed],
            self.not_rows[others],
            self.not_groups[others],
            self.together[same],
            self.apart[different],
        )

    def to(self, device: torch.device) -> Constraints:
        """These constraints on a device."""
        names = ("rows", "groups", "not_rows", "not_groups", "together", "apart")
        return Constraints(**{name: getattr(self, name).to(device) for name in names})

    def all_rows(self) -> Int[Tensor, " a"]:
        """Every row that is named, once for each time; `constraint_loss` takes their logits in this order."""
        return torch.cat([self.rows, self.not_rows, self.together.reshape(-1), self.apart.reshape(-1)])


def constraint_loss(logits: Float[Tensor, "a k"], given: Constraints) -> Float[Tensor, ""]:
    """The judgements' part of the loss, from the logits of `given.all_rows()`; 0 where there is none of a kind."""
    sizes = [len(given.rows), len(given.not_rows), 2 * len(given.together), 2 * len(given.apart)]
    _, others, same, different = logits.softmax(1).split(sizes)
    loss = logits.new_zeros(())
    if sizes[0]:
        loss = loss + FIXED * F.cross_entropy(logits[: sizes[0]], given.groups)
    if sizes[1]:
        inside = others.gather(1, given.not_groups[:, None])[:, 0]
        loss = loss - NOT * (1 - inside).clamp(min=SMALLEST).log().mean()
    if sizes[2]:
        loss = loss - PAIR * _in_one_group(same).clamp(min=SMALLEST).log().mean()
    if sizes[3]:
        loss = loss - PAIR * (1 - _in_one_group(different)).clamp(min=SMALLEST).log().mean()
    return loss


def _in_one_group(p: Float[Tensor, "m k"]) -> Float[Tensor, " p"]:
    return (p[0::2] * p[1::2]).sum(1)


def judged_targets(
    features: Float[Tensor, "n d"],
    said: Float[Tensor, "n k"],
    fixed: Int[Tensor, " n"],
    cells: int,
    generator: torch.Generator,
    norm: str,
    restarts: int = 1,
) -> Float[Tensor, "n k"]:
    """The mean of each mini-cluster, Σ v s / Σ v: v is 10 and s certain where `fixed` is a group (else it is -1)."""
    means = cell_means(features, _weighted(said, fixed), cells, generator, norm, restarts)
    return means[:, :-1] / means[:, -1:]


def judged_means(
    said: Float[Tensor, "n k"], fixed: Int[Tensor, " n"], cell: Int[Tensor, " n"], cells: int
) -> Float[Tensor, "n k"]:
    """The targets of `judged_targets` for mini-clusters that are known."""
    means = means_by_cell(_weighted(said, fixed), cell, cells)
    return means[:, :-1] / means[:, -1:]


def _weighted(said: Float[Tensor, "n k"], fixed: Int[Tensor, " n"]) -> Float[Tensor, "n k+1"]:
    """v s of each item, and v."""
    known = fixed >= 0
    sure = F.one_hot(fixed.clamp(min=0), said.shape[1]).to(said.dtype)
    s = torch.where(known[:, None], sure, said)
    v = torch.where(known, COUNTS, 1.0).to(said.dtype)[:, None]
    return torch.cat([v * s, v], dim=1)
