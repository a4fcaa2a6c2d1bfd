"""Which rule says how many groups there are? On made mixtures, whose number is known, and on shapes without groups.

    python experiments/choosing_k_rule.py

Mixtures of Gaussians: 2 to 20 groups in 2, 10 and 50 dimensions, their centres so many deviations apart in the mean
(8: apart, 5: they touch, 3.5: they overlap), every other one with groups of unequal size. Shapes without groups: one
Gaussian, a uniform square and cube, a segment, a ring, heavy tails, a skewed cloud, mixtures of archetypes. For each
the curve of `choose_k` is read by four rules: `held`, the stablest of those that hold, which was the rule before;
`stablest`, which must also be as stable as any that does not hold; and both where two of the four other criteria
agree. The product's is "held, agreed". An answer is right where it is the known number, or next to it. Nothing here
has a label. Writes experiments/results/choosing_k_rule.json.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _runs import RESULTS
from numpy.typing import NDArray

from coterie import choose_k
from coterie.common.outputs import write_atomically
from coterie.evaluation.group_rule import CONFIRMED, Row, confirming, recommended, stablest
from coterie.training.device import machine

Floats = NDArray[np.float32]

GROUPS = {2: (2, 3, 5), 10: (2, 3, 5, 8, 13, 20), 50: (2, 5, 8, 13, 20)}
DISTANCES = {"apart": 8.0, "touching": 5.0, "overlapping": 3.5}
RULES = ("held", "stablest", "held, agreed", "stablest, agreed")


def mixture(dim: int, k: int, distance: float, *, unequal: bool) -> Floats:
    """Round Gaussians of deviation 1 around normal centres, whose mean distance is `distance`."""
    rng = np.random.default_rng([dim, k, round(10 * distance)])
    centres = rng.normal(size=(k, dim))
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)[np.triu_indices(k, 1)].mean()
    sizes = np.linspace(0.4, 1.6, k) if unequal else np.ones(k)
    truth = rng.choice(k, 1000 if k < 10 else 2000, p=sizes / sizes.sum())
    return (centres[truth] * distance / apart + rng.normal(size=(len(truth), dim))).astype(np.float32)


def shapes() -> dict[str, Floats]:
    """Points in which there are no groups."""
    rng, n = np.random.default_rng(0), 1000
    angle = rng.uniform(0, 2 * np.pi, n)
    made = {
        "gaussian, 2": rng.normal(size=(n, 2)),
        "gaussian, 50": rng.normal(size=(n, 50)) * np.linspace(3, 0.3, 50),
        "square": rng.random((n, 2)),
        "cube, 10": rng.random((n, 10)),
        "segment": np.c_[10 * rng.random(n), rng.normal(size=(n, 9)) * 0.3],
        "ring": np.c_[np.cos(angle), np.sin(angle)] * 5 + 0.3 * rng.normal(size=(n, 2)),
        "heavy tails, 10": rng.standard_t(4, size=(n, 10)),
        "skewed, 10": rng.exponential(size=(n, 10)),
        "archetypes, 20": rng.dirichlet(np.ones(4), n) @ rng.normal(size=(4, 20)) * 3 + 0.3 * rng.normal(size=(n, 20)),
    }
    return {name: points.astype(np.float32) for name, points in made.items()}


def by_rules(curve: Sequence[Row], ticks: Mapping[str, int]) -> dict[str, int | None]:
    """What each rule says; None where it says that no number stands out."""
    held, best = recommended(curve), stablest(curve)
    as_stable = [row.k for row in curve if row.passes and row.excess >= best.excess - best.error]
    found = {"held": held, "stablest": max(as_stable, default=None)}
    for name, k in list(found.items()):
        agreed = k is not None and len(confirming(ticks, (k, k))) >= CONFIRMED
        found[f"{name}, agreed"] = k if agreed else None
    return found


def verdict(k: int | None, known: int | None) -> str:
    if k is None:
        return "none"
    return "right" if known is not None and abs(k - known) <= 1 else "wrong"


def record(name: str, kind: str, known: int | None, points: Floats) -> dict[str, Any]:
    found = choose_k(points)
    said = by_rules(found.curve, found.ticks)
    print(name, "known", known, said, found.ticks, flush=True)
    verdicts = {rule: verdict(k, known) for rule, k in said.items()}
    answer = {"k": found.k, "clear": found.clear, "plateau": list(found.plateau)}
    return {
        "data": name,
        "kind": kind,
        "known": known,
        "said": said,
        "verdicts": verdicts,
        **answer,
        "ticks": found.ticks,
    }


def main() -> None:
    rows = []
    for dim, numbers in GROUPS.items():
        for place, k in enumerate(numbers):
            for kind, distance in DISTANCES.items():
                points = mixture(dim, k, distance, unequal=place % 2 == 1)
                rows.append(record(f"{k} groups, {dim} dimensions, {kind}", kind, k, points))
    rows += [record(name, "no groups", None, points) for name, points in shapes().items()]
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in (*DISTANCES, "no groups")}
    counts = {
        rule: {kind: dict(Counter(row["verdicts"][rule] for row in some)) for kind, some in kinds.items()}
        for rule in RULES
    }
    content = {
        "command": "python experiments/choosing_k_rule.py",
        "machine": machine(),
        "counts": counts,
        "records": rows,
    }
    print(json.dumps(counts, indent=1))
    write_atomically(RESULTS / "choosing_k_rule.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
