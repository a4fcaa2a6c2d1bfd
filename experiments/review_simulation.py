"""What a review costs and what it leaves: a simulated reviewer on a finished run, keys and seconds against error left.

    python experiments/review_simulation.py digits --items 0 --method cdc
    python experiments/review_simulation.py fashion-mnist --items 10000 --method kmeans
    python experiments/review_simulation.py cifar10-jpeg.parquet --items 3000 --method cdc --encoder efficientnet-lite0

Draws images, fits them as `coterie fit` does (no label takes part), and lets a reviewer answer by the true labels, at
the costs of `_reviewer.py`. All ways but the first begin with the clustering, its groups named and merged by name:

- every picture, without groups; every picture in random order; lowest confidence first; smallest margin first; by
  expected gain, the order that the specification proposed; each of the last three also with the pictures alike, which
  Shift takes along;
- sweep: every group is swept, least sure first, and what is left goes by lowest confidence, with and without the
  pictures alike, and with the head trained again after 200 answers where that is offered.

`weights`: the error of what is undecided before and after training the head again, by the weights of its loss. Writes
experiments/results/review_simulation_NAME.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _reviewer import SLOW, Reviewer, Rows, by_gain
from _runs import command_for_drawn, ground, label_free, parser_for_drawn, preset_on, write_records
from _tables import draw
from numpy.typing import NDArray

from coterie.algorithms.neighbours import nearest
from coterie.calibration import constraints
from coterie.calibration.constraints import Constraints
from coterie.cli.settings import read_overrides
from coterie.pipeline import run
from coterie.prediction.embedding import embed_run
from coterie.prediction.results import ResultTable, read_result
from coterie.review.queue import ALIKE, NEAR
from coterie.training.refit import FEWEST, refit

MARKS = (100, 250, 500, 1000, 2000, 5000)  # keys at which the error left is told
TARGETS = (0.05, 0.02, 0.01)  # errors left, until which seconds are told
AFTER = 200  # answers before the head is trained again
WEIGHTS = (
    (1.0, 10.0),
    (0.3, 10.0),
    (3.0, 10.0),
    (1.0, 1.0),
    (1.0, 100.0),
)  # of the loss, in a mini-cluster; ours first

Trace = list[tuple[int, float, float, float]]  # keys, seconds, seconds of a slow reader, error left


class Run:
    """A finished run as a reviewer meets it: probabilities (n, k), embedding, and the true classes that answer."""

    def __init__(self, p: NDArray[np.float32], features: NDArray[np.float32], truth: Rows) -> None:
        self.p, self.features, self.truth = p, features, truth
        centred = torch.from_numpy(features - features.mean(axis=0))
        distance, rows = nearest(centred, min(15, len(p) - 1), metric="cosine")
        self.directions = F.normalize(centred, dim=1).numpy()
        self.near, self.like = rows.numpy(), 1 - distance.double().numpy()

    def begin(self) -> tuple[Reviewer, NDArray[np.float64]]:
        """A reviewer who has named the groups, and the confidences after the merges, which add columns."""
        label = self.p.argmax(1).astype(np.int64)
        reviewer = Reviewer(self.truth, label, [-1] * self.p.shape[1])
        reviewer.name(self.p.max(1).astype(np.float64))
        return reviewer, self.probabilities(label, reviewer.label).max(1)

    def probabilities(self, before: Rows, after: Rows) -> NDArray[np.float64]:
        """The columns after merges: those of a group that went into another are added to it."""
        found = np.zeros(self.p.shape)
        for group in range(self.p.shape[1]):
            members = before == group
            found[:, after[members][0] if members.any() else group] += self.p[:, group]
        return found

    def alike(self, reviewer: Reviewer, row: int) -> Rows:
        """What the product would show beside it (`coterie.review.queue.near`), with the norms computed once."""
        same = np.flatnonzero(~reviewer.decided & (reviewer.label == reviewer.label[row]))
        same = same[same != row]
        cosine = self.directions[same] @ self.directions[row]
        order = np.argsort(-cosine, kind="stable")[:NEAR]
        return same[order[cosine[order] >= ALIKE]]


def answered(world: Run, reviewer: Reviewer, order: Any, trace: Trace, *, alike: bool, most: int | None = None) -> None:
    """Go through an order: a list, or a generator that is told what was answered."""
    rows: Rows | None = None
    told = hasattr(order, "send")
    source = order if told else iter(order)
    while most is None or most > 0:
        try:
            row = order.send(rows) if told else next(source)
        except StopIteration:
            return
        if reviewer.decided[row]:
            rows = np.array([row])
            continue
        rows = reviewer.answer(row, world.alike(reviewer, row) if alike else None)
        trace.append(now(reviewer))
        most = most if most is None else most - 1


def queue(world: Run, how: str, *, alike: bool) -> tuple[Trace, dict[str, Any]]:
    """All pictures, one after the other."""
    reviewer, confidence = world.begin()
    trace: Trace = [now(reviewer)]
    two = np.sort(world.p, axis=1)[:, -2:]
    orders: dict[str, Callable[[], Any]] = {
        "random": lambda: np.random.default_rng(0).permutation(len(confidence)).tolist(),
        "lowest": lambda: np.argsort(confidence, kind="stable").tolist(),
        "margin": lambda: np.argsort(two[:, 1] - two[:, 0], kind="stable").tolist(),
        "gain": lambda: by_gain(confidence, world.p.argsort(1)[:, -2], reviewer.label, world.near, world.like),
    }
    order = orders[how]()
    answered(world, reviewer, order, trace, alike=alike)
    return trace, {}


def swept(world: Run, *, alike: bool, again: bool) -> tuple[Trace, dict[str, Any]]:
    """Every group, least sure first, then what is left by lowest confidence."""
    reviewer, confidence = world.begin()
    trace: Trace = [now(reviewer)]
    found = sweep_all(reviewer, confidence, trace)
    found["error_after_sweep"] = reviewer.error
    left = np.flatnonzero(~reviewer.decided)
    order = left[np.argsort(confidence[left], kind="stable")].tolist()
    if again:
        answered(world, reviewer, order, trace, alike=alike, most=AFTER)
        found |= train_again(world, reviewer)
        trace.append(now(reviewer))
        order = sorted((row for row in order if not reviewer.decided[row]), key=lambda row: found["sure"][row])
        del found["sure"]
    answered(world, reviewer, order, trace, alike=alike)
    return trace, found


def sweep_all(reviewer: Reviewer, confidence: NDArray[np.float64], trace: Trace) -> dict[str, Any]:
    means = [(confidence[reviewer.label == g].mean(), g) for g in np.unique(reviewer.label).tolist()]
    total = {"pages": 0, "looked": 0, "approved": 0, "strays": 0}
    for _, group in sorted(means):
        open_ones = np.flatnonzero((reviewer.label == group) & ~reviewer.decided)
        if not len(open_ones):
            continue
        order = open_ones[np.argsort(-confidence[open_ones], kind="stable")]
        told = reviewer.sweep(group, order)
        total = {key: total[key] + told[key] for key in total}
        trace.append(now(reviewer))
    inferred = reviewer.decided & ~reviewer.seen
    wrong = reviewer.classes[inferred] != reviewer.truth[inferred]
    return {**total, "inferred": int(inferred.sum()), "wrong_inferred": int(wrong.sum())}


def train_again(world: Run, reviewer: Reviewer, seed: int = 0) -> dict[str, Any]:
    """The product's refit on what was decided and looked at; its labels are taken where it is offered."""
    fixed = np.flatnonzero(reviewer.decided & reviewer.seen)
    live = np.unique(reviewer.label)
    said = np.zeros((len(world.p), len(reviewer.owner)), np.float32)
    said[:, : world.p.shape[1]] = world.p
    for group, members in ((g, world.p.argmax(1) == g) for g in range(world.p.shape[1])):
        free = members & ~reviewer.decided
        into = np.bincount(reviewer.label[free]).argmax() if free.any() else group
        if into != group:
            said[:, into] += said[:, group]
            said[:, group] = 0
    said = said[:, live] / said[:, live].sum(axis=1, keepdims=True).clip(1e-12)
    place = {int(g): at for at, g in enumerate(live)}
    groups = torch.tensor([place[g] for g in reviewer.label[fixed].tolist()], dtype=torch.int64)
    open_ones = ~reviewer.decided
    before = float((reviewer.classes != reviewer.truth)[open_ones].mean()) if open_ones.any() else 0.0
    if len(fixed) < FEWEST or not open_ones.any():
        return {"offered": False, "undecided_before": before, "undecided_after": before, "sure": said.max(1)}
    found = refit(world.features, said, Constraints(torch.from_numpy(fixed), groups), seed)
    label = live[found.probabilities.argmax(1)]
    after = float((np.array(reviewer.owner)[label] != reviewer.truth)[open_ones].mean())
    offered = found.held_out > found.before
    sure = said[np.arange(len(said)), [place[g] for g in reviewer.label.tolist()]]
    if offered:
        reviewer.spend(2)
        reviewer.label = np.where(open_ones, label, reviewer.label)
        sure = said[np.arange(len(said)), found.probabilities.argmax(1)]
    told = {"held_out": found.held_out, "as_it_was": found.before, "fixed": len(fixed), "offered": offered}
    return {**told, "undecided_before": before, "undecided_after": after, "sure": sure}


def weighed(world: Run) -> list[dict[str, Any]]:
    """The refit under other weights, after the sweep and 200 answers; the product's own are put back."""
    kept, rows = (constraints.FIXED, constraints.COUNTS), []
    try:
        for constraints.FIXED, constraints.COUNTS in WEIGHTS:
            reviewer, confidence = world.begin()
            sweep_all(reviewer, confidence, [])
            left = np.flatnonzero(~reviewer.decided)
            order = left[np.argsort(confidence[left], kind="stable")].tolist()
            answered(world, reviewer, order, [], alike=False, most=AFTER)
            found = train_again(world, reviewer)
            del found["sure"]
            rows.append({"fixed_weight": constraints.FIXED, "counts": constraints.COUNTS, **found})
            print(rows[-1], flush=True)
    finally:
        constraints.FIXED, constraints.COUNTS = kept
    return rows


def now(reviewer: Reviewer) -> tuple[int, float, float, float]:
    return reviewer.keys, reviewer.seconds(), reviewer.seconds(SLOW), reviewer.error


def summary(way: str, trace: Trace, n: int, more: dict[str, Any]) -> dict[str, Any]:
    """Errors at marks, what each target costs, and the whole."""
    keys, seconds, slow, errors = (np.array(column) for column in zip(*trace, strict=True))
    at = [float(errors[np.searchsorted(keys, mark, side="right") - 1]) if keys[0] <= mark else None for mark in MARKS]
    reached = {}

    def told(place: int) -> dict[str, float]:
        return {"keys": int(keys[place]), "seconds": round(seconds[place]), "slow_seconds": round(slow[place])}

    for target in TARGETS:
        first = np.flatnonzero(errors <= target)
        place = int(first[0]) if len(first) else None
        reached[f"{target:g}"] = None if place is None else told(place)
    found = {"way": way, "errors": dict(zip(map(str, MARKS), at, strict=True)), "reached": reached}
    found |= {"whole": told(-1), "error": float(errors[-1]), **more}
    two = reached["0.02"]
    found["pictures_an_hour"] = None if two is None else round(3600 * n / two["seconds"])
    print(f"{way}: {found}", flush=True)
    return found


def ways(world: Run) -> list[dict[str, Any]]:
    n = len(world.truth)
    scratch = Reviewer(world.truth, np.zeros(n, np.int64), list(range(int(world.truth.max()) + 1)))
    trace: Trace = [(0, 0.0, 0.0, 1.0)]
    for done in range(1, n + 1):
        scratch.spend(1)
        trace.append((*now(scratch)[:3], 1 - done / n))
    rows = [summary("every picture, without groups", trace, n, {})]
    for how in ("random", "lowest", "margin", "gain"):
        for alike in (False, True) if how in ("lowest", "gain") else (False,):
            rows.append(summary(how + ", alike" * alike, *_with(queue(world, how, alike=alike), n)))
    for alike, again in ((False, False), (True, False), (False, True), (True, True)):
        name = "sweep, lowest" + ", alike" * alike + ", head again" * again
        rows.append(summary(name, *_with(swept(world, alike=alike, again=again), n)))
    return rows


def _with(found: tuple[Trace, dict[str, Any]], n: int) -> tuple[Trace, int, dict[str, Any]]:
    return found[0], n, found[1]


def features_of(out: Path, table: ResultTable) -> NDArray[np.float32]:
    """The embedding that the run stored, else made by its model as the app does."""
    if table.embedding is not None:
        return table.embedding
    path = out / "features-of-review.npy"
    if not path.exists():
        embed_run(out, table.ids, path)
    return np.load(path).astype(np.float32)


def main() -> None:
    options = parser_for_drawn(__doc__, Path("runs/review"))
    options.add_argument("--method", default="cdc")
    options.add_argument("--encoder")
    given = options.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    name, file, labels, family = draw(given.source, given.items, given.runs)
    records: list[dict[str, Any]] = []
    for seed in given.seeds:
        out = given.runs / f"{name}-{given.method}-{given.encoder or 'none'}-{seed}"
        overrides = read_overrides(given.set)
        settings = replace(ground(given), method=given.method, seed=seed, calibrate="auto", overrides=overrides)
        settings = replace(settings, store_embedding=True, family=family, encoder=given.encoder)
        settings = replace(settings, preset=preset_on(settings.preset, given.method, given.source))
        if not (out / "result.parquet").exists():
            run(file, settings, out, resume=(out / "run.yaml").exists())
        table, record = read_result(out / "result.parquet"), label_free(out)
        world = Run(table.heads[next(iter(table.heads))], features_of(out, table), labels.codes.astype(np.int64))
        records.append(
            {
                "data": name,
                "n": len(labels.codes),
                "k": given.k,
                "method": given.method,
                "encoder": given.encoder,
                "seed": seed,
                "ways": ways(world),
                "weights": weighed(world),
                "settings": record["stages"][-1]["settings"],
                "confidence": float(table.confidence.mean()),
            }
        )
        command = command_for_drawn("review_simulation", given) + f" --method {given.method}"
        command += f" --encoder {given.encoder}" if given.encoder else ""
        write_records(f"review_simulation_{name}_{given.method}", command, records, given.results)


if __name__ == "__main__":
    main()
