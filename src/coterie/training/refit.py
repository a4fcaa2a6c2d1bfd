"""A calibration head trained alone, on fixed features, with what people said about single items: a review's refit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from coterie.calibration.constraints import CONSTRAINED, Constraints, constraint_loss, judged_targets
from coterie.networks.heads import mlp_head
from coterie.objectives.mini_clusters import practical_cells
from coterie.types import InputError

STEPS, FREE, PARTS = 300, 250, 4  # steps; free items of one; steps of one batch
FOLDS, FEWEST = 5, 10  # held out in turn; fixed items below which nothing can be held out
RATE, HIDDEN, BLOCK = 3e-3, 512, 16384


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
