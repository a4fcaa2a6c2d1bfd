"""How many images a mini-cluster should hold: CDC with K = B/2, B/5, B/10, B/20, B/40 from the same MoCo backbones.

    python experiments/mini_clusters.py digits -k 10 --seeds 0 1 2 --runs runs/reference

Starts from the MoCo runs that experiments/cdc_reference.py left in --runs (and makes them if they are not there). The
numbers are here to say what the practical preset's rule costs on data with known labels. Writes
experiments/results/mini_clusters_<data>.json.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from _runs import command_line, ground, label_free, of_stage, overrides_of, parser, row, write_records

IMAGES_EACH = (2, 5, 10, 20, 40)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--each", type=int, nargs="+", default=list(IMAGES_EACH), help="images in a mini-cluster")
    given = options.parse_args()
    name, overrides = given.name or given.source, overrides_of(given.set, ("moco", "cdc"))
    records: list[dict[str, Any]] = []
    for seed in given.seeds:
        moco = given.runs / f"{name}-moco-{seed}"
        row(given.source, replace(ground(given), method="moco", seed=seed, overrides=of_stage(overrides, "moco")), moco)
        reference = given.runs / f"{name}-cdc-{seed}"
        batch, by_rule = read_preset(reference, overrides)
        for each in given.each:
            wanted = max(given.k, round(batch / each))
            # The run with as many as the rule gives is there already.
            ruled = wanted == by_rule
            changed = of_stage(overrides, "cdc") | ({} if ruled else {"cdc.cells": wanted})
            settings = replace(ground(given), method="cdc", seed=seed, init=str(moco), overrides=changed)
            out = reference if ruled else given.runs / f"{name}-cells-{each}-{seed}"
            found = row(given.source, settings, out)
            record = {"data": name, "method": "cdc", "n": found["record"]["source"]["n"], "k": given.k, "seed": seed}
            record |= {"seconds": found["seconds"], "skipped": 0, "images_each": each}
            cells = found["stages"][0]["settings"]["cells"]
            records.append({**record, "cells": cells, "heads": found["heads"], "metrics": found["heads"]["cal"]})
        command = command_line("mini_clusters", given, given.seeds)
        if given.each != list(IMAGES_EACH):
            command += " --each " + " ".join(map(str, given.each))
        write_records(f"mini_clusters_{name}", command, records, given.results)


def read_preset(reference: Path, overrides: dict[str, Any]) -> tuple[int, int]:
    """Batch size and mini-clusters of the reference run, which followed the rule."""

    settings = label_free(reference)["stages"][-1]["settings"]
    return int(overrides.get("cdc.batch_size") or settings["batch_size"]), int(settings["cells"])


if __name__ == "__main__":
    main()
