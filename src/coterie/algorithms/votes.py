"""Several partitions of the same items as one: groups are matched, and each item gets the vote of its neighbours.

Strehl and Ghosh, "Cluster Ensembles", JMLR 2002, has the idea of combining partitions; the vote of neighbours, which
assigns new items with a confidence, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from coterie.algorithms.neighbours import nearest
from coterie.networks.memory import ItemTable

OF_GROUP, FEWEST = 10, 5  # voters: this part of a mean group of the landmarks, and at least so many
NOBODY = 0.01  # votes added to each group, so that no probability is 0


class NeighbourVotes(nn.Module):
    """log of the mean share that each group has among an item's near landmarks, over all partitions. (n, d) -> (n, k).

    A landmark is one of its own neighbours. neighbours: None is a tenth of a mean group of the landmarks, for a fixed
    number would lie closer together, and agree more, the more of them there are.
    """

    def __init__(self, width: int, k: int, neighbours: int | None) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.landmarks, self.shares = ItemTable(width), ItemTable(k)

    @torch.no_grad()
    def place(self, rows: Float[Tensor, "n d"], partitions: Sequence[Int[Tensor, " n"]], k: int) -> None:
        """Take these landmarks with their groups in each partition, matched to the partition most like the others."""
        matched = matched_to_medoid([part.cpu().numpy() for part in partitions], k)
        shares = np.stack([np.eye(k, dtype=np.float32)[labels] for labels in matched]).mean(0)
        self.landmarks.fill(rows)
        self.shares.fill(torch.from_numpy(shares).to(rows))

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        known, k = self.landmarks.rows, self.shares.rows.shape[1]
        neighbours = self.neighbours or max(FEWEST, len(known) // (OF_GROUP * k))
        asked = min(neighbours + 1, len(known))
        _, index = nearest(known, asked, rows, exact=True)
        votes = self.shares.rows[index].sum(1)
        return ((votes + NOBODY) / (asked + NOBODY * k)).log()


def matched_to_medoid(partitions: Sequence[np.ndarray], k: int) -> list[np.ndarray]:
    """The partitions (n,) with their groups numbered as in that which agrees with the others on most items."""
    tables = [[_counts(one, other, k) for other in partitions] for one in partitions]
    agreed = [sum(table[linear_sum_assignment(table, maximize=True)].sum() for table in row) for row in tables]
    middle = int(np.argmax(agreed))
    found = []
    for labels, table in zip(partitions, tables[middle], strict=True):
        theirs = np.empty(k, np.int64)
        ours, columns = linear_sum_assignment(table, maximize=True)
        theirs[columns] = ours
        found.append(theirs[labels])
    return found


def _counts(rows: np.ndarray, columns: np.ndarray, k: int) -> np.ndarray:
    return np.bincount(rows * k + columns, minlength=k * k).reshape(k, k)
