"""A training step beside the authors' own loop: the same trunk, pictures and batch, in turns on the same cores.

    python benchmarks/beside_authors.py --cc PATH --scan PATH --cdc PATH --simsiam PATH --secu PATH --divclust PATH

Each PATH is a checkout of the authors' repository on GitHub (`CONTESTS`). Its training function, losses, views and
settings for CIFAR-10 (SimSiam: ImageNet, at 32 pixels) are imported from there and run as they are, on pictures that
its DataLoader reads from memory; only what needs a card is sent to the processor, the backbone is coterie's, and
packages that the loop does not use (logs, plots) may be absent (`_authors.py`). Ours is the engine with the same batch,
backbone and heads, in float32 and in the precision that it takes by itself. Seconds are those from one batch to the
next, without an epoch's first two; the middle of three turns is told. Data: ten random
patterns under noise, 32×32×3. Each loop runs in a process of its own. Let nothing else run beside it. Writes
benchmarks/results/beside_authors.json; what is not given a PATH is "not run".
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _authors import (
    BACKBONE,
    GROUPS,
    HIDDEN,
    SIDE,
    WARM,
    WIDTH,
    their_cc,
    their_cdc,
    their_divclust,
    their_scan,
    their_secu,
    their_simsiam,
    without_a_card,
)
from _measure import in_a_process, write_results
from speed import pixels
from steps import Clock, train, untrained

from coterie.preparing import Watch, prepare
from coterie.training.device import Precision
from coterie.training.plan import RunSettings

TURNS = 3
CELLS, PART = 500, 500  # of CDC's CIFAR-10 row


@dataclass(frozen=True)
class Contest:
    """The authors' repository, a method, its batch, batches of an epoch, and what makes an epoch of their loop."""

    repository: str
    method: str
    batch: int
    batches: int
    theirs: Callable[[np.ndarray, int], Callable[[], list[float]]]
    overrides: dict[str, Any]


CDC_ROW = {"cdc.cells": CELLS, "cdc.batch_size": 1000, "cdc.sub_batch": PART}
SIMSIAM = {"simsiam.batch_size": 256, "simsiam.projector_hidden": WIDTH, "simsiam.projector_out": 2048}
SIMSIAM |= {"simsiam.predictor_hidden": 512}
DIVCLUST = {"divclust.batch_size": 256, "divclust.hidden": WIDTH, "divclust.clusterings": 20}
CONTESTS = {
    "cc": Contest("Yunfan-Li/Contrastive-Clustering", "cc", 256, 12, their_cc, {"cc.batch_size": 256}),
    "scan": Contest("wvangansbeke/Unsupervised-Classification", "scan", 128, 16, their_scan, {"scan.batch_size": 128}),
    "cdc": Contest("ChengJianH/CDC", "cdc", 1000, 5, their_cdc, CDC_ROW | {"cdc.hidden": HIDDEN}),
    "simsiam": Contest("facebookresearch/simsiam", "simsiam", 256, 10, their_simsiam, SIMSIAM),
    "secu": Contest("idstcv/SeCu", "secu", 128, 16, their_secu, {"secu.batch_size": 128, "secu.hidden": WIDTH}),
    "divclust": Contest("ManiadisG/DivClust", "divclust", 256, 10, their_divclust, DIVCLUST),
}


def ours(contest: Contest, images: np.ndarray, precision: Precision) -> tuple[Callable[[], list[float]], str]:
    """Seconds of the steps of an epoch of the engine, and its precision."""
    settings = RunSettings(
        GROUPS,
        contest.method,
        epochs=1,
        device="cpu",
        backbone=BACKBONE,
        precision=precision,
        family="photo",
        overrides=contest.overrides,
        calibrate=False,
    )
    prepared = prepare(images, settings, None, resume=False, watch=Watch())

    def once() -> list[float]:
        clock = Clock()
        train(prepared, untrained(prepared), clock)
        return clock.times[WARM:]

    return once, prepared.precision.name


def measure(name: str, checkout: Path, workers: int) -> dict[str, Any]:
    contest = CONTESTS[name]
    images = pixels(contest.batch * contest.batches, SIDE, 3)
    precisions: tuple[Precision, ...] = ("fp32", "auto")
    own = {precision: ours(contest, images, precision) for precision in precisions}
    without_a_card(checkout)
    runs = {"authors": contest.theirs(images, workers)} | {key: run for key, (run, _) in own.items()}
    times: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(TURNS):
        for key, run in runs.items():
            times[key].append(statistics.mean(run()))
    step = {key: statistics.median(found) for key, found in times.items()}
    return {
        "batch": contest.batch,
        "backbone": BACKBONE,
        "workers_of_theirs": workers,
        "authors_seconds": round(step["authors"], 4),
        "seconds_float32": round(step["fp32"], 4),
        "seconds": round(step["auto"], 4),
        "precision": own["auto"][1],
        "times_faster_float32": round(step["authors"] / step["fp32"], 2),
        "times_faster": round(step["authors"] / step["auto"], 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in CONTESTS:
        options.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"checkout of {CONTESTS[name].repository}")
    options.add_argument("--workers", type=int, default=2, help="processes that read for their loop")
    options.add_argument("--limit", type=float, default=1800.0, help="seconds for each")
    options.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        name, checkout, workers = given.one
        found = measure(name, Path(checkout), int(workers))
        print()
        print(json.dumps(found))
        return
    methods: dict[str, Any] = {}
    for name in CONTESTS:
        checkout = getattr(given, name)
        words = [name, str(checkout), str(given.workers)]
        found = {"status": "not run"} if checkout is None else in_a_process(__file__, words, given.limit)
        methods[name] = {"repository": CONTESTS[name].repository} | found
        print(name, methods[name], flush=True)
    asked = [f"--{name} PATH" for name in CONTESTS if getattr(given, name) is not None]
    command = " ".join(["python benchmarks/beside_authors.py", *asked, f"--workers {given.workers}"])
    print(write_results("beside_authors", command, methods=methods))


if __name__ == "__main__":
    main()
