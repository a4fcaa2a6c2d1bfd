"""The probabilities after merges and splits: column j is group j for ever, and rows still sum to 1.

A merge adds the columns of the groups that retired to the survivor's. A split shares a group's column among its parts:
by the posterior of equal round Gaussians at the parts' means, softmax(-|z - c|² / 2σ²) with σ² the mean squared
deviation of the members a feature; without features, a listed member's goes to its part and another item's by size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.review.base import BLOCK, Base
from coterie.review.state import Parts, State

KEPT = 1 << 21  # shares of all rows that are kept for a split, 8 MB; of more rows or parts they are computed again


@dataclass
class Shares:
    """How one split shares its group's column, with these features (n, d) or without any."""

    numbers: list[int]
    sizes: NDArray[np.float64]
    centres: NDArray[np.float32] | None  # (parts, d)
    spread: float
    part_of: NDArray[np.int32] | None  # (n,), -1 for items that were no members
    features: NDArray[np.floating] | None
    whole: NDArray[np.float32] | None = None  # (n, parts), once all rows were asked for

    def keep(self, n: int) -> None:
        """Keep the shares of all rows, since every decision that is shown asks for them again."""
        if self.centres is not None and self.whole is None and n * len(self.centres) <= KEPT:
            starts = range(0, n, BLOCK)
            self.whole = np.concatenate([self.of(np.arange(start, min(n, start + BLOCK))) for start in starts])

    def of(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """(m, parts); rows sum to 1."""
        if self.whole is not None:
            return self.whole[rows]
        if self.centres is not None and self.features is not None:
            z = self.features[rows].astype(np.float32)
            # One part after the other: all at once would take `parts` times the memory.
            distance = np.stack([((z - centre) ** 2).sum(axis=1) for centre in self.centres], axis=1)
            score = -(distance - distance.min(axis=1, keepdims=True)) / (2 * self.spread)
            share = np.exp(score)
            return np.asarray(share / share.sum(axis=1, keepdims=True), np.float32)
        assert self.part_of is not None
        share = np.tile((self.sizes / self.sizes.sum()).astype(np.float32), (len(rows), 1))
        part = self.part_of[rows]
        inside = np.flatnonzero(part >= 0)
        share[inside] = 0
        share[inside, part[inside]] = 1
        return share


class Columns:
    """The merges and splits of a state, ready to be applied to any rows of its run."""

    def __init__(
        self, base: Base, changes: Sequence[tuple[str, int, Any]], width: int, features: NDArray[np.floating] | None
    ) -> None:
        self.base, self.width = base, width
        self.changes: list[tuple[str, int, Any]] = [
            (kind, group, _shares(base.n, detail, features) if kind == "split" else detail)
            for kind, group, detail in changes
        ]

    def probabilities(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """(m, width) of these rows."""
        return self._changed(self.base.probabilities(rows), rows)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, probabilities) of all rows, a block at a time."""
        for kind, _, detail in self.changes:
            if kind == "split":
                detail.keep(self.base.n)
        for start, block in self.base.blocks():
            yield start, self._changed(block, np.arange(start, start + len(block)))

    def confidence(self, labels: NDArray[np.integer], rows: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        """The probability of each label, 0 for those that belong nowhere; of these rows, or of all."""
        if rows is not None:
            return _picked(self.probabilities(rows), labels)
        found = np.empty(self.base.n)
        for start, block in self.blocks() if self.changes else self.base.blocks():
            found[start : start + len(block)] = _picked(block, labels[start : start + len(block)])
        return found

    def _changed(self, block: NDArray[np.float32], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        p = np.zeros((len(block), self.width), np.float32)
        p[:, : block.shape[1]] = block
        for kind, group, detail in self.changes:
            if kind == "merge":
                p[:, group] += p[:, detail].sum(axis=1)
                p[:, detail] = 0
            else:
                mass = p[:, group].copy()
                p[:, group] = 0
                p[:, detail.numbers] += mass[:, None] * detail.of(rows)
        return p


def columns_of(base: Base, state: State, features: NDArray[np.floating] | None, upto: int | None = None) -> Columns:
    """The columns of a state, or as they were after its first `upto` changes."""
    return Columns(base, state.columns[:upto], state.next_group, features)


def _picked(p: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    found = p[np.arange(len(p)), np.maximum(labels, 0)].astype(np.float64)
    found[labels < 0] = 0
    return np.minimum(found, 1.0)


def _shares(n: int, parts: Parts, features: NDArray[np.floating] | None) -> Shares:
    """How a group's probability goes to the parts of a split: by their means, else by membership. Worked out once."""
    known: Shares | None = parts.shares
    if known is None or known.features is not features:
        known = parts.shares = _worked_out(n, parts.members, features)
    return known


def _worked_out(
    n: int, parts: Sequence[tuple[int, NDArray[np.int64]]], features: NDArray[np.floating] | None
) -> Shares:
    numbers = [number for number, _ in parts]
    sizes = np.array([max(1, len(rows)) for _, rows in parts], np.float64)
    if features is None or not all(len(rows) for _, rows in parts):
        part_of = np.full(n, -1, np.int32)
        for place, (_, rows) in enumerate(parts):
            part_of[rows] = place
        return Shares(numbers, sizes, None, 1.0, part_of, features)
    means = [features[rows].astype(np.float32).mean(axis=0) for _, rows in parts]
    squares = sum(
        float(((features[rows].astype(np.float32) - mean) ** 2).sum())
        for (_, rows), mean in zip(parts, means, strict=True)
    )
    spread = max(squares / (sizes.sum() * features.shape[1]), 1e-12)
    return Shares(numbers, sizes, np.stack(means), spread, None, features)
