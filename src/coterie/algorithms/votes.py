"""Several partitions of the same items as one: groups are matched, and each item gets the vote of its neighbours.

Strehl and Ghosh, "Cluster Ensembles", JMLR 2002, has the idea of combining partitions; the vote of neighbours, which
assigns new items with a confidence, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.algorithms.consensus import matched_to
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
        matched = torch.stack(matched_to_medoid(partitions, k)).cpu().numpy()
        shares = np.eye(k, dtype=np.float32)[matched].mean(0)
        self.landmarks.fill(rows)
        self.shares.fill(torch.from_numpy(shares).to(rows))

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        known, k = self.landmarks.rows, self.shares.rows.shape[1]
        neighbours = self.neighbours or max(FEWEST, len(known) // (OF_GROUP * k))
        asked = min(neighbours + 1, len(known))
        _, index = nearest(known, asked, rows, exact=True)
        votes = self.shares.rows[index].sum(1)
        return ((votes + NOBODY) / (asked + NOBODY * k)).log()


def matched_to_medoid(partitions: Sequence[Int[Tensor, " n"]], k: int) -> list[Int[Tensor, " n"]]:
    """The partitions with their groups numbered as in that which agrees with the others on most items."""

    def as_in(reference: Tensor, labels: Tensor) -> Tensor:
        return matched_to(reference, labels, k).argsort()[labels]

    agreed = [sum(int((as_in(one, other) == one).sum()) for other in partitions) for one in partitions]
    middle = partitions[int(np.argmax(agreed))]
    return [as_in(middle, labels) for labels in partitions]
