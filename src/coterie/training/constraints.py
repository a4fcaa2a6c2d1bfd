"""What people said about single items, as constants of a calibration head: its loss, its targets, and a refit alone.

The items of a mini-cluster share a target as in post-hoc calibration (Jia et al., ICLR 2025, Eq. 1), but an item whose
group is fixed counts ten times and with its group for certain, so that a correction reaches its neighbours. Beside it
stand the cross-entropy of fixed items, and that of pairs and of groups an item is not in, by the probability that a
pair is in one group, ⟨p_i, p_j⟩ (Hsu et al., "Multi-class Classification without Multi-class Labels", ICLR 2019).

May not live here: where the judgements come from. Only the calibration stage and a review's refit see them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from coterie.networks.heads import mlp_head
from coterie.objectives.regions import cell_means, practical_cells
from coterie.types import InputError

FIXED, NOT, PAIR = 1.0, 0.5, 0.5  # weights of the three kinds of judgement in the loss
COUNTS = 10.0  # a fixed item in the target of its mini-cluster, against 1 of any other
SMALLEST = 1e-6  # of a probability whose logarithm is taken
STEPS, FREE, CONSTRAINED, PARTS = 300, 250, 64, 4  # steps; items of one; steps of one batch
FOLDS, FEWEST = 5, 10  # held out in turn; fixed items below which nothing can be held out
RATE, HIDDEN, BLOCK = 3e-3, 512, 16384


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
        """At most so many rows, drawn at random: as many of each kind as its share of all."""
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

    def all_rows(self) -> Int[Tensor, " a"]:
        """Every row that is named, as often as it is; `losses` takes the logits of these, in this order."""
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
    known = fixed >= 0
    sure = F.one_hot(fixed.clamp(min=0), said.shape[1]).to(said.dtype)
    s = torch.where(known[:, None], sure, said)
    v = torch.where(known, COUNTS, 1.0).to(said.dtype)[:, None]
    means = cell_means(features, torch.cat([v * s, v], dim=1), cells, generator, norm, restarts)
    return means[:, :-1] / means[:, -1:]


@dataclass(frozen=True)
class Refit:
    """A head's answer after judgements: probabilities (n, k), the SHA-256 of its weights, and what holding out shows.

    held_out, before: the shares of fixed items whose group the head predicted without them, and the clustering did.
    """

    probabilities: NDArray[np.float32]
    sha256: str
    held_out: float
    before: float


def refit(
    features: NDArray[np.floating], said: NDArray[np.float32], given: Constraints, seed: int = 0, steps: int = STEPS
) -> Refit:
    """Train a fresh head on fixed features, by what the clustering says and by judgements.

    features (n, d), said (n, k). Raises InputError for fewer than 10 fixed items, too few to hold any out.
    """
    if len(given.rows) < FEWEST:
        raise InputError(
            f"Only {len(given.rows)} items are decided and were looked at: it takes {FEWEST} to train the head again."
        )
    rows = given.rows.numpy()
    before = float((said[rows].argmax(1) == given.groups.numpy()).mean())
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    right = 0
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        kept = torch.ones(len(rows), dtype=torch.bool)
        kept[held] = False
        head = _Head(features, said, replace(given, rows=given.rows[kept], groups=given.groups[kept]), seed, steps)
        found = head.probabilities(given.rows[held].numpy()).argmax(1)
        right += int((found == given.groups[held].numpy()).sum())
    head = _Head(features, said, given, seed, steps)
    return Refit(head.probabilities(None), head.sha256(), right / len(rows), before)


class _Head:
    """A head that has been trained."""

    def __init__(
        self, features: NDArray[np.floating], said: NDArray[np.float32], given: Constraints, seed: int, steps: int
    ) -> None:
        self.features, self.generator = features, torch.Generator().manual_seed(seed)
        n, k = said.shape
        sample = self._rows(torch.randperm(n, generator=self.generator)[: min(n, 10_000)].sort().values)
        self.mean = sample.mean(0)
        self.std = sample.std(0).clamp(min=max(1e-3 * float(sample.std(0).square().mean().sqrt()), 1e-12))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = min(HIDDEN, max(16, k, n // 4))
            self.net = nn.Sequential(*mlp_head(features.shape[1], hidden, k))
        optimiser = torch.optim.Adam(self.net.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        self.net.train()
        for x, target, some in self._batches(said, given, steps):
            logits = self.net(torch.cat([x, self._standard(some.all_rows())]))
            own, others = logits.split([len(x), len(logits) - len(x)])
            loss = -(target * own.log_softmax(1)).sum(1).mean() + constraint_loss(others, some)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        self.net.eval()

    def _batches(
        self, said: NDArray[np.float32], given: Constraints, steps: int
    ) -> Iterator[tuple[Float[Tensor, "b d"], Float[Tensor, "b k"], Constraints]]:
        """For each step free items with their targets, and constrained ones."""
        n, k = said.shape
        free = np.setdiff1d(np.arange(n), given.rows.numpy())
        if len(free) < 2:
            free = np.arange(n)
        size = min(FREE * PARTS, len(free))
        for start in range(0, steps, PARTS):
            chosen = free[torch.randperm(len(free), generator=self.generator)[:size].numpy()]
            beside = given.some(CONSTRAINED * PARTS, self.generator)
            rows = torch.cat([torch.from_numpy(np.sort(chosen)), beside.rows])
            fixed = torch.full((len(rows),), -1, dtype=torch.int64)
            fixed[size:] = beside.groups
            x, p = self._rows(rows), torch.from_numpy(said[rows.numpy()])
            cells = practical_cells(len(rows), k)
            targets = judged_targets(x, p, fixed, cells, self.generator, "none")[:size]
            order = torch.randperm(size, generator=self.generator)
            for part in order.chunk(min(PARTS, steps - start)):
                x_part = (x[:size][part] - self.mean) / self.std
                yield x_part, targets[part], given.some(CONSTRAINED, self.generator)

    @torch.no_grad()
    def probabilities(self, rows: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Of these rows, or of all."""
        wanted = torch.arange(len(self.features)) if rows is None else torch.from_numpy(rows)
        return torch.cat([self.net(self._standard(part)).softmax(1) for part in wanted.split(BLOCK)]).numpy()

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in self.net.state_dict().items():
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _rows(self, rows: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        return torch.from_numpy(np.asarray(self.features[rows.numpy()], np.float32))

    def _standard(self, rows: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        return (self._rows(rows) - self.mean) / self.std
