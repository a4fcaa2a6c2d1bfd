"""Two groups side by side: what is sure of each, what lies between, how far they are mixed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.app.site import Site

SHOWN, SAMPLE, NEAREST = 24, 1500, 10


@dataclass(frozen=True)
class Compared:
    """Items of each group, those between, and `across`: the share of neighbours in the other group, if known."""

    first: list[dict[str, Any]]
    second: list[dict[str, Any]]
    between: list[dict[str, Any]]
    sizes: tuple[int, int]
    across: float | None
    mass: float


def compared(site: Site, a: int, b: int) -> Compared:
    """Compare two live groups."""
    review = site.review
    members = [review.state.members(group) for group in (a, b)]
    both = np.concatenate(members)
    width = max(a, b) + 1
    from coterie.review.columns import columns_of

    p = columns_of(review.base, review.state, review.features).probabilities(both)
    assert p.shape[1] >= width
    # Between are those that are least decided between the two, of those that are of one of them at all.
    gap = np.abs(p[:, a] - p[:, b]) + (1 - p[:, a] - p[:, b])
    between = both[np.argsort(gap, kind="stable")[: SHOWN // 2]]
    sizes = (len(members[0]), len(members[1]))
    mass = float((p[: sizes[0], b].sum() + p[sizes[0] :, a].sum()) / max(1, len(both)))
    return Compared(
        site.listing.items(site.listing.rows(a, "surest")[:SHOWN]),
        site.listing.items(site.listing.rows(b, "surest")[:SHOWN]),
        site.listing.items(between),
        sizes,
        _across(review.features, members),
        mass,
    )


def _across(features: NDArray[np.floating] | None, members: list[NDArray[np.int64]]) -> float | None:
    """Of the ten nearest neighbours of each, the share that is of the other group, against what chance gives.

    1 is as mixed as can be, 0 is apart. Of at most 1,500 members of each.
    """
    if features is None or min(map(len, members)) < 2:
        return None
    rng = np.random.default_rng(0)
    chosen = [np.sort(rng.choice(rows, SAMPLE, replace=False)) if len(rows) > SAMPLE else rows for rows in members]
    z = np.asarray(features[np.concatenate(chosen)], np.float32)
    z = z - z.mean(axis=0)  # products of rows far from 0 would lose their differences
    side = np.repeat([0, 1], [len(rows) for rows in chosen])
    squares = (z**2).sum(axis=1)
    distance = squares[:, None] + squares[None] - 2 * z @ z.T
    np.fill_diagonal(distance, np.inf)
    near = min(NEAREST, len(z) - 1)
    first = np.argpartition(distance, near - 1, axis=1)[:, :near]
    other = (side[first] != side[:, None]).mean(axis=1)
    shares = np.array([(side == 1).mean(), (side == 0).mean()])  # what chance gives to each side
    return float(min(1.0, (other / shares[side]).mean()))
