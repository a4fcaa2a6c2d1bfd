"""A calibration head trained alone, on fixed features, with what people said about single items: a review's refit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from coterie.algorithms.kmeans import kmeans
from coterie.calibration.constraints import CONSTRAINED, Constraints, constraint_loss, judged_means
from coterie.common.isolation import in_turn
from coterie.networks.heads import mlp_head
from coterie.networks.net import weights_digest
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


@in_turn
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
    ground = _Ground(features, said, given, seed, steps)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    folds = [order[fold::FOLDS] for fold in range(FOLDS)]
    head, *others = _trained(ground, [given, *(_without(given, held) for held in folds)], seed)
    right = 0
    for held, other in zip(folds, others, strict=True):
        found = _answer(other, ground, given.rows[held]).argmax(1)
        right += int((found == given.groups[held].numpy()).sum())
    return Refit(_answer(head, ground, torch.arange(len(said))), weights_digest(head), right / len(rows), before)


def _without(given: Constraints, held: Int[Tensor, " h"]) -> Constraints:
    kept = torch.ones(len(given.rows), dtype=torch.bool)
    kept[held] = False
    return replace(given, rows=given.rows[kept], groups=given.groups[kept])


@dataclass(frozen=True)
class _Round:
    """Items of some steps: `free` ones, then decided ones beside them; the mini-cluster of each."""

    rows: Int[Tensor, " b"]
    free: int
    cell: Int[Tensor, " b"]
    parts: tuple[Int[Tensor, " _"], ...]  # places of free items, a step each


class _Ground:
    """What all heads share: the scaling of the features, and the rounds. Mini-clusters depend on no judgement.

    A decided item that is held out is, to its mini-cluster, an item that nobody decided.
    """

    def __init__(
        self, features: NDArray[np.floating], said: NDArray[np.float32], given: Constraints, seed: int, steps: int
    ) -> None:
        self.features, self.said, self.steps = features, torch.from_numpy(said), steps
        generator, (n, k) = torch.Generator().manual_seed(seed), said.shape
        sample = self.rows(torch.randperm(n, generator=generator)[: min(n, 10_000)].sort().values)
        self.mean = sample.mean(0)
        self.std = sample.std(0).clamp(min=max(1e-3 * float(sample.std(0).square().mean().sqrt()), 1e-12))
        free = np.setdiff1d(np.arange(n), given.rows.numpy())
        if len(free) < 2:
            free = np.arange(n)
        size = min(FREE * PARTS, len(free))
        self.rounds = []
        for start in range(0, steps, PARTS):
            chosen = free[torch.randperm(len(free), generator=generator)[:size].numpy()]
            beside = given.some(CONSTRAINED * PARTS, generator).rows
            rows = torch.cat([torch.from_numpy(np.sort(chosen)), beside])
            self.cells = practical_cells(len(rows), k)
            cell = kmeans(self.rows(rows), self.cells, generator=generator).labels
            parts = torch.randperm(size, generator=generator).chunk(min(PARTS, steps - start))
            self.rounds.append(_Round(rows, size, cell, parts))

    def rows(self, rows: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        return torch.from_numpy(np.asarray(self.features[rows.numpy()], np.float32))

    def standard(self, rows: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        return (self.rows(rows) - self.mean) / self.std


class _SideBySide(nn.Module):
    """Copies of a head as one net, whose products are a few large ones: the same as each alone, in a third of the time.

    A batch is (copies, items, features).
    """

    def __init__(self, head: nn.Sequential, copies: int) -> None:
        super().__init__()
        first, last = head[0], head[3]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        self.first, self.last = (
            nn.Parameter(layer.weight.detach().T.expand(copies, -1, -1).clone()) for layer in (first, last)
        )
        self.first_bias, self.last_bias = (
            nn.Parameter(layer.bias.detach().expand(copies, 1, -1).clone()) for layer in (first, last)
        )
        self.norm = nn.BatchNorm1d(copies * first.out_features)  # each copy has its own features

    def forward(self, x: Float[Tensor, "m b d"]) -> Float[Tensor, "m b k"]:
        hidden = torch.baddbmm(self.first_bias, x, self.first).transpose(0, 1)
        hidden = self.norm(hidden.flatten(1)).relu_().view(hidden.shape).transpose(0, 1)
        return torch.baddbmm(self.last_bias, hidden, self.last)

    def alone(self, copy: int, head: nn.Sequential) -> nn.Sequential:
        """Give a head what a copy of it has learned."""
        own = self.norm.state_dict()
        width = self.norm.num_features // len(self.first)
        norm = {name: value[copy * width :][:width] if value.ndim else value for name, value in own.items()}
        layers = (("0", self.first, self.first_bias), ("3", self.last, self.last_bias))
        learned = {f"1.{name}": value for name, value in norm.items()}
        for name, weight, bias in layers:
            learned |= {f"{name}.weight": weight[copy].T, f"{name}.bias": bias[copy, 0]}
        head.load_state_dict(learned)
        return head.eval()


def _trained(ground: _Ground, givens: list[Constraints], seed: int) -> list[nn.Sequential]:
    """A head for each of these judgements, all from the same start on the same free items."""
    n, k = ground.said.shape

    def fresh() -> nn.Sequential:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(*mlp_head(ground.features.shape[1], min(HIDDEN, max(16, k, n // 4)), k))

    net = _SideBySide(fresh(), len(givens)).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, ground.steps)
    for x, targets, some in _batches(ground, givens, seed):
        beside = ground.standard(torch.cat([one.all_rows() for one in some])).unflatten(0, (len(some), -1))
        logits = net(torch.cat([x.expand(len(some), -1, -1), beside], dim=1))
        own, others = logits.split([len(x), beside.shape[1]], dim=1)
        loss = -(targets * own.log_softmax(2)).sum(2).mean(1).sum()
        loss = loss + sum(constraint_loss(mine, one) for mine, one in zip(others, some, strict=True))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return [net.alone(copy, fresh()) for copy in range(len(givens))]


def _batches(
    ground: _Ground, givens: list[Constraints], seed: int
) -> Iterator[tuple[Float[Tensor, "b d"], Float[Tensor, "m b k"], list[Constraints]]]:
    """For each step free items with their targets, and constrained ones, as many for each head."""
    draws = [torch.Generator().manual_seed(seed) for _ in givens]
    groups = torch.full((len(givens), len(ground.said)), -1)
    for group, given in zip(groups, givens, strict=True):
        group[given.rows] = given.groups
    for found in ground.rounds:
        said = ground.said[found.rows]
        means = [judged_means(said, group[found.rows], found.cell, ground.cells)[: found.free] for group in groups]
        x, targets = ground.standard(found.rows[: found.free]), torch.stack(means)
        for part in found.parts:
            some = [given.some(CONSTRAINED, draw) for given, draw in zip(givens, draws, strict=True)]
            least = min(len(one.rows) for one in some)
            yield x[part], targets[:, part], [replace(o, rows=o.rows[:least], groups=o.groups[:least]) for o in some]


@torch.no_grad()
def _answer(head: nn.Sequential, ground: _Ground, rows: Int[Tensor, " m"]) -> NDArray[np.float32]:
    """The probabilities (m, k) of these rows."""
    return torch.cat([head(ground.standard(part)).softmax(1) for part in rows.split(BLOCK)]).numpy()
