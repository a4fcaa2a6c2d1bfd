"""The generated parts of the pages on the number of groups and on judged samples."""

from __future__ import annotations

import functools
from typing import Any

from _docs import Block, percent, records, table

NAMES = {"before": "as they were"}


def choosing() -> str:
    """What `choosing_k.py` found."""
    rows = []
    for one in records("choosing_k")["records"]:
        low, high = one["plateau"]
        said = f"{one['k']}, plateau {low}–{high}" if one["clear"] else f"none stands out; {low}–{high} about alike"
        ticks = ", ".join(f"{name} {k}" for name, k in one["ticks"].items())
        known = "none" if one["known"] is None else str(one["known"])
        rows.append([one["data"], known, said, ticks, f"{one['seconds']:.0f}", f"{one['processor_seconds']:.0f}"])
    head = ["source", "known", "recommended", "each criterion alone", "seconds", "of processor"]
    return table(head, rows, records("choosing_k")["command"])


def choosing_rule() -> str:
    """How often each rule is right, wrong, or says that no number stands out."""
    found = records("choosing_k_rule")
    kinds = next(iter(found["counts"].values()))
    rows = [
        [
            rule,
            *(", ".join(f"{counts[kind].get(verdict, 0)}" for verdict in ("right", "wrong", "none")) for kind in kinds),
        ]
        for rule, counts in found["counts"].items()
    ]
    return table(["rule: right, wrong, none", *kinds], rows, found["command"])


def recalibration(data: str) -> str:
    """Before and after each map, over the draws of each run."""
    found = records(f"recalibration_{data}")
    rows = [
        [f"{one['method']}, seed {one['seed']}", NAMES.get(row["confidences"], row["confidences"]), *_cells(row)]
        for one in found["records"]
        for row in one["rows"]
    ]
    head = ["run", "confidences", "ECE", "± over draws", "conf. less ACC", "accepted at 5 %", "accepted at 10 %"]
    return table([*head, "map kept"], rows, found["command"])


def _cells(row: dict[str, Any]) -> list[str]:
    taken = []
    for promise in ("0.05", "0.1"):
        accepted, wrong = (percent(row[f"{key}_{promise}"]["mean"]) for key in ("accepted", "error"))
        alone = f"; {percent(row['kept'][f'error_{promise}'])}" if "helps" in row and row["kept"] else ""
        taken.append(f"{accepted} ({wrong}{alone})")
    kept = percent(row["helps"]["mean"], 0) if "helps" in row else ""
    return [percent(row["ece"]["mean"]), percent(row["ece"]["std"]), percent(row["gap"]["mean"]), *taken, kept]


def ensemble(data: str) -> str:
    """Each run, and what they make together."""
    found = records(f"ensemble_{data}")
    names = {"ensemble": "ensemble: groups of the medoid", "mean": "mean of all"}
    keys = ("acc", "ece", "confidence", "auroc")
    rows = [
        [row["head"], names.get(row["answer"], row["answer"]), *(percent(row[key]) for key in keys)]
        for row in found["rows"]
    ]
    bound = f"Medoid: {found['medoid']}. Bound on the mean accuracy, without labels: {percent(found['bound'])}."
    advice = " ".join(found["trust"]["sentences"][1:])
    made = table(["head", "answer", "ACC", "ECE", "mean confidence", "AUROC"], rows, found["command"])
    return f"{made}\n{bound} {advice}\n"


BLOCKS: dict[str, Block] = {
    "choosing-k": choosing,
    "choosing-k-rule": choosing_rule,
    "ensemble-cifar10-auto": functools.partial(ensemble, "cifar10-jpeg-auto"),
    "ensemble-digits": functools.partial(ensemble, "digits"),
    "ensemble-fashion-mnist-pica": functools.partial(ensemble, "fashion-mnist-pica"),
    "recalibration-cifar10": functools.partial(recalibration, "cifar10-jpeg"),
    "recalibration-digits": functools.partial(recalibration, "digits"),
}
