"""Prepares a refit of the head, and says which labels it would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.arguments import whole_number
from coterie.records import rows as row_texts
from coterie.review.columns import columns_of
from coterie.review.state import MODEL, REFIT
from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.calibration.constraints import Constraints
    from coterie.review.session import Review


@dataclass(frozen=True)
class Proposal:
    """Labels that a refit would change. held_out, before: shares of decided items predicted, each without itself."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    sha256: str
    settings: dict[str, Any]
    held_out: float
    before: float

    @property
    def better(self) -> bool:
        """Whether it predicts what people decided better than the clustering; otherwise it is not offered."""
        return self.held_out > self.before

    def event(self) -> dict[str, Any]:
        """The content of the event `refit`."""
        labels = self.labels.tolist()
        return {
            "sha256": self.sha256,
            "settings": self.settings,
            "rows": row_texts.written(self.rows),
            "labels": labels,
        }


def propose_refit(review: Review, seed: int = 0, steps: int | None = None) -> Proposal:
    """Train a head on what was decided and looked at, and say which undecided labels would change.

    Raises InputError without the embedding, and for too few decided items.
    """
    from coterie.calibration.constraints import COUNTS, FIXED, NOT, PAIR
    from coterie.training.refit import STEPS, refit

    seed, features = whole_number(seed, "seed", 0, 2**63 - 1), review.features
    if features is None:
        raise InputError("Training the head again needs the embedding of the items: compute it first.")
    with review.guard:
        live, said, given = _given(review, features)
    steps = steps or STEPS
    found = refit(features, said, given, seed, steps)
    labels = live[found.probabilities.argmax(1)]
    with review.guard:  # what was decided while it trained is left as it is
        state = review.state
        free = ~state.decided & (state.label >= 0) & ((state.origin == MODEL) | (state.origin == REFIT))
        rows = np.flatnonzero(free & (labels != state.label))
    settings = {"seed": seed, "steps": steps, "fixed": FIXED, "not": NOT, "pair": PAIR, "counts": COUNTS}
    return Proposal(rows, labels[rows], found.sha256, settings, found.held_out, found.before)


def _given(
    review: Review, features: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float32], Constraints]:
    """The groups that have members, what the clustering says of each item in these, and what people decided."""
    import torch

    from coterie.calibration.constraints import Constraints

    state = review.state
    live = np.array([g for g in state.live if (state.label == g).any()])
    place = {int(group): at for at, group in enumerate(live)}
    columns = columns_of(review.base, state, features)
    said = np.concatenate([p[:, live] for _, p in columns.blocks()])
    said /= np.maximum(said.sum(axis=1, keepdims=True), 1e-12)
    fixed = np.flatnonzero(state.decided & state.seen & (state.label >= 0))
    wrong = [
        (row, place[state.resolve(judgement.shown)])
        for audit in state.audits.values()
        if audit.ended is not None
        for row, judgement in audit.counted()
        if judgement.answer == "wrong" and judgement.belongs is None and state.resolve(judgement.shown) in place
    ]
    wrong = [(row, group) for row, group in wrong if not state.decided[row]]
    links = [link for link in state.links if not link.groups]

    def pairs(same: bool) -> torch.Tensor:
        found = [(link.a, link.b) for link in links if link.same is same]
        return torch.tensor(found, dtype=torch.int64).reshape(-1, 2)

    given = Constraints(
        torch.from_numpy(fixed),
        torch.tensor([place[g] for g in state.label[fixed].tolist()], dtype=torch.int64),
        torch.tensor([row for row, _ in wrong], dtype=torch.int64),
        torch.tensor([group for _, group in wrong], dtype=torch.int64),
        pairs(True),
        pairs(False),
    )
    return live, said, given
