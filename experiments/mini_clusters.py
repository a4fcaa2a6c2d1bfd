"""How many images a mini-cluster should hold: CDC with K = B/2, B/5, B/10, B/20, B/40 from the same MoCo backbones.

    python experiments/mini_clusters.py digits -k 10 --seeds 0 1 2 --runs runs/reference

Starts from the MoCo runs that experiments/cdc_reference.py left in --runs (and makes them if they are not there). The
practical preset's rule, ten images a mini-cluster, was set before these numbers and does not follow them: they are here
to say what the rule costs on data with known labels. Writes experiments/results/mini_clusters_<data>.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdc_reference import RESULTS, arguments, command_line, row

from coterie.cli.settings import read_overrides
from coterie.training.device import machine
from coterie.training.plan import RunSettings

IMAGES_EACH = (2, 5, 10, 20, 40)


def main() -> None:
    given = arguments(__doc__)
    name, overrides = given.name or given.source, read_overrides(given.set)
    records: list[dict[str, Any]] = []
    for seed in given.seeds:
        moco = given.runs / f"{name}-moco-{seed}"
        row(given.source, RunSettings(given.k, "moco", seed=seed), moco)
        batch = read_batch(given.runs / f"{name}-cdc-{seed}", overrides)
        for each in IMAGES_EACH:
            settings = RunSettings(
                given.k,
                "cdc",
                seed=seed,
                init=str(moco),
                overrides=overrides | {"cdc.cells": max(given.k, round(batch / each))},
            )
            found = row(given.source, settings, given.runs / f"{name}-cells-{each}-{seed}")
            record = {"data": name, "method": "cdc", "n": found["record"]["source"]["n"], "k": given.k, "seed": seed}
            record |= {"seconds": found["seconds"], "skipped": 0, "images_each": each}
            cells = found["stages"][0]["settings"]["cells"]
            records.append({**record, "cells": cells, "heads": found["heads"], "metrics": found["heads"]["cal"]})
        command = command_line("mini_clusters", name, given.k, given.seeds, given.set)
        content = {"command": command, "machine": machine(), "records": records}
        (RESULTS / f"mini_clusters_{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def read_batch(reference: Path, overrides: dict[str, Any]) -> int:
    """The batch size that the practical preset took for these data."""
    from coterie.training.runfolder import read_run

    return int(overrides.get("cdc.batch_size") or read_run(reference)["stages"][-1]["settings"]["batch_size"])


if __name__ == "__main__":
    main()
