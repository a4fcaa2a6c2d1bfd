"""A training step beside the authors' own loop: the same trunk, pictures and batch, in turns on the same cores.

    python benchmarks/beside_authors.py --cc PATH --scan PATH --tcl PATH ...
    python benchmarks/beside_authors.py --pica PATH     # the rows of other methods stay as they are

Each PATH is a checkout of the authors' repository on GitHub (`CONTESTS`). Its training function, losses, views and
settings for CIFAR-10 (SimSiam: ImageNet, DMICC: STL-10, PICA: CIFAR-100, all at 32 pixels) are imported from there and
run as they are, on pictures that its DataLoader reads from memory; only what needs a card is sent to the processor, the
backbone is coterie's, and packages that the loop does not use (logs, plots) may be absent (`_stand_ins.py`). What else
is ours in one of them is said in `_authors.py`. Ours is the engine with the same batch, backbone and heads, in float32
and in the precision that it takes by itself. Seconds are those from one batch to the next (SPICE: from one round to the
next), without an epoch's first two; the middle of three turns is told. Data: ten random patterns under noise, 32×32×3.
Each loop runs in a process of its own. Let nothing else run beside it. Writes
benchmarks/results/beside_authors.json after each; what is not given a PATH stays as it is there, or is "not run".
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
    SPICE_REPEATS,
    SPICE_ROUND,
    their_cc,
    their_cdc,
    their_conr,
    their_divclust,
    their_dmicc,
    their_pica,
    their_propos,
    their_scan,
    their_secu,
    their_simsiam,
    their_spice,
    their_tcl,
)
from _measure import RESULTS, in_a_process, write_results
from _stand_ins import BACKBONE, GROUPS, HIDDEN, SIDE, WARM, WIDTH, without_a_card
from speed import pixels
from steps import Clock, train, untrained

from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.training.device import Precision
from coterie.training.plan import RunSettings

TURNS = 3
NOT_RUN = {"status": "not run"}
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
    backbone: str = BACKBONE
    untimed: int = 0  # of our last steps, where one has work in it that follows an epoch of theirs


CDC_ROW = {"cdc.cells": CELLS, "cdc.batch_size": 1000, "cdc.sub_batch": PART}
SIMSIAM = {"simsiam.batch_size": 256, "simsiam.projector_hidden": WIDTH, "simsiam.projector_out": 2048}
SIMSIAM |= {"simsiam.predictor_hidden": 512, "views.blur": 0.5}
SECU = {"secu.batch_size": 128, "secu.hidden": WIDTH, "secu.blur": (1.0, 0.1)}
TCL = {"tcl.batch_size": 256, "tcl.boost_epochs": 0, "tcl.hidden": HIDDEN, "tcl.blur": 1.0}
HEADS = {"projector_hidden": 4096, "projector_out": 256, "predictor_hidden": 4096}  # of ProPos, and of BYOL before CoNR
PROPOS, BEFORE, CONR = ({f"{name}.{key}": width for key, width in HEADS.items()} for name in ("propos", "byol", "conr"))
PROPOS |= {"propos.batch_size": 128}
CONR |= BEFORE | {"conr.batch_size": 128}
# With `drift`, as in the authors' code, each step passes the heads' pictures through the backbone again.
SPICE = {"spice.batch_size": SPICE_ROUND, "spice.repeats": SPICE_REPEATS, "spice.hidden": HIDDEN, "spice.drift": True}
DMICC = {"dmicc.batch_size": 128, "dmicc.temperature": 1.0, "dmicc.view_term": "released"}
PICA = {"pica.batch_size": 128, "pica.copies": 3, "pica.over": 70}
DIVCLUST = {"divclust.batch_size": 256, "divclust.hidden": WIDTH, "divclust.clusterings": 20}
CONTESTS = {
    "cc": Contest("Yunfan-Li/Contrastive-Clustering", "cc", 256, 12, their_cc, {"cc.batch_size": 256}),
    "scan": Contest("wvangansbeke/Unsupervised-Classification", "scan", 128, 16, their_scan, {"scan.batch_size": 128}),
    "cdc": Contest("ChengJianH/CDC", "cdc", 1000, 5, their_cdc, CDC_ROW | {"cdc.hidden": HIDDEN}),
    "simsiam": Contest("facebookresearch/simsiam", "simsiam", 256, 10, their_simsiam, SIMSIAM),
    "secu": Contest("idstcv/SeCu", "secu", 128, 16, their_secu, SECU),
    "divclust": Contest("ManiadisG/DivClust", "divclust", 256, 10, their_divclust, DIVCLUST),
    "tcl": Contest("Yunfan-Li/Twin-Contrastive-Learning", "tcl", 256, 8, their_tcl, TCL),
    "propos": Contest("Hzzone/ProPos", "propos", 128, 8, their_propos, PROPOS),
    "conr": Contest("cly234/DeepClustering-ConNR", "conr", 128, 8, their_conr, CONR),
    "spice": Contest("niuchuangnn/SPICE", "spice", SPICE_ROUND, 5, their_spice, SPICE, untimed=1),
    "dmicc": Contest("Li-Hyn/DMICC", "dmicc", 128, 10, their_dmicc, DMICC),
    "pica": Contest("Raymond-sci/PICA", "pica", 128, 6, their_pica, PICA, f"sobel+{BACKBONE}"),
}


def ours(contest: Contest, images: np.ndarray, precision: Precision) -> tuple[Callable[[], list[float]], str]:
    """Seconds of the steps of an epoch of the engine, and its precision."""
    settings = RunSettings(
        GROUPS,
        contest.method,
        epochs=1,
        device="cpu",
        backbone=contest.backbone,
        precision=precision,
        family="photo",
        overrides=contest.overrides,
        calibrate=False,
    )
    prepared = prepare(images, settings, None, resume=False, watch=Watch())

    def once() -> list[float]:
        clock = Clock()
        train(prepared, untrained(prepared), clock)
        return clock.times[WARM : len(clock.times) - contest.untimed]

    return once, prepared.precision.name


def measure(name: str, checkout: Path, workers: int) -> dict[str, Any]:
    contest = CONTESTS[name]
    images = pixels(contest.batch * contest.batches, SIDE, 3)
    plain, chosen = ours(contest, images, "fp32"), ours(contest, images, "auto")
    without_a_card(checkout)
    runs = {"authors": contest.theirs(images, workers), "fp32": plain[0]}
    if chosen[1] != plain[1]:
        runs["auto"] = chosen[0]
    times: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(TURNS):
        for key, run in runs.items():
            times[key].append(statistics.mean(run()))
    step = {key: statistics.median(found) for key, found in times.items()}
    step.setdefault("auto", step["fp32"])
    return {
        "batch": contest.batch,
        "backbone": contest.backbone,
        "workers_of_theirs": workers,
        "authors_seconds": round(step["authors"], 4),
        "seconds_float32": round(step["fp32"], 4),
        "seconds": round(step["auto"], 4),
        "precision": chosen[1],
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
    path = RESULTS / "beside_authors.json"
    before = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.exists() else {}
    methods = {name: before.get(name, {"repository": one.repository, **NOT_RUN}) for name, one in CONTESTS.items()}
    for name, contest in CONTESTS.items():
        checkout = getattr(given, name)
        if checkout is None:
            continue
        words = [name, str(checkout), str(given.workers)]
        methods[name] = {"repository": contest.repository, **in_a_process(__file__, words, given.limit)}
        print(name, methods[name], flush=True)
        asked = [f"--{name} PATH" for name, one in methods.items() if one["status"] != "not run"]
        command = " ".join(["python benchmarks/beside_authors.py", *asked, f"--workers {given.workers}"])
        write_results("beside_authors", command, methods=methods)


if __name__ == "__main__":
    main()
