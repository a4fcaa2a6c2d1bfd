"""Lloyd's iterations over very many points without looking at all of them each time.

Hamerly, "Making k-means Even Faster", SDM 2010: a point keeps an upper bound of the distance to its own centre and a
lower one of that to any other. Centres move little after the first steps, the bounds change by as much, and where the
upper one stays below the lower one the label cannot have changed. The labels are those of the plain
iterations, up to points that are as near to two centres.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 8192
SLACK = 1e-4  # of the points' mean length: more than what products lose of a distance in float32


class Nearest:
    """The nearest of k >= 2 centres to each point, asked again as the centres move."""

    def __init__(self, x: Float[Tensor, "n d"]) -> None:
        self.x, self.norms = x, torch.linalg.vector_norm(x, dim=1).square_()
        self.slack = SLACK * float(self.norms.mean().sqrt())
        self.upper, self.lower = torch.empty_like(self.norms), torch.empty_like(self.norms)
        self.labels = torch.empty(len(x), dtype=torch.long, device=x.device)
        self.centres: Tensor | None = None
        self.looked = 0  # points looked at so far, for tests

    def __call__(self, centres: Float[Tensor, "k d"], labels: Int[Tensor, " n"] | None = None) -> Int[Tensor, " n"]:
        """The label of every point. `labels`: the current ones, if the caller changed some since the last call."""
        if self.centres is None:
            self._look(centres, None)
        else:
            self._look(centres, self._doubtful(centres, self.labels if labels is None else labels))
        self.centres = centres
        return self.labels

    def _doubtful(self, centres: Tensor, labels: Tensor) -> Int[Tensor, " m"]:
        """The points whose label may have changed, after all bounds are moved by as much as their centres."""
        assert self.centres is not None
        shift = (centres - self.centres).norm(dim=1)
        farthest = shift.topk(2)
        self.upper += shift[labels]
        self.lower -= torch.where(labels == farthest.indices[0], farthest.values[1], farthest.values[0])
        between = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
        halfway = between.fill_diagonal_(torch.inf).amin(1) / 2
        sure = self.upper + self.slack < torch.maximum(self.lower, halfway[labels])
        return (~sure | (labels != self.labels)).nonzero().flatten()

    def _look(self, centres: Tensor, rows: Tensor | None) -> None:
        """Compute the label and the distances to the two nearest centres of these points (None: of all)."""
        half, self.labels = centres.square().sum(1).div_(2), self.labels.clone()
        for at in torch.arange(len(self.x), device=self.x.device).split(CHUNK) if rows is None else rows.split(CHUNK):
            part = self.x[at] if rows is not None else self.x[at[0] : at[-1] + 1]
            scores = torch.addmm(half, part, centres.T, alpha=-1)  # half the squared distance, less that of the point
            best = scores.min(dim=1)
            second = scores.scatter_(1, best.indices[:, None], torch.inf).amin(1)
            self.labels[at] = best.indices
            self.upper[at] = (self.norms[at] + 2 * best.values).clamp_(min=0).sqrt_()
            self.lower[at] = (self.norms[at] + 2 * second).clamp_(min=0).sqrt_()
            self.looked += len(at)


class Means:
    """The mean of each group, from float64 sums that are updated only by points that change their group."""

    def __init__(self, x: Float[Tensor, "n d"], k: int) -> None:
        self.x, self.labels = x, torch.full((len(x),), -1, device=x.device)
        self.sums = torch.zeros(k, x.shape[1], dtype=torch.float64, device=x.device)

    def __call__(self, labels: Int[Tensor, " n"], centres: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """The means of these groups; an empty one keeps its row of `centres`."""
        for at in (labels != self.labels).nonzero().flatten().split(CHUNK):
            rows, before = self.x[at].double(), self.labels[at]
            self.sums.index_add_(0, labels[at], rows)
            if bool((left := before >= 0).any()):
                self.sums.index_add_(0, before[left], -rows[left])
        self.labels = labels
        counts = torch.bincount(labels, minlength=len(centres))[:, None]
        return torch.where(counts > 0, self.sums / counts.clamp(min=1), centres.double()).float()
