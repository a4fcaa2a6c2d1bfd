"""PICA from scratch on one data set, and its calibration: the confidences before and after `--calibrate`, by seed.

    python experiments/pica_reference.py fashion-mnist -k 10 --seeds 0 1 2 --runs runs/pica

Every seed is a run folder below --runs, and a run that was interrupted goes on where it stopped. Labels are read after
each run, for the numbers only; beside Hungarian accuracy stands purity, which the paper's sentence describes. The heads
are `cal`, the calibrated one, and `primary`, PICA's own. Writes experiments/results/pica_reference_<data>.json.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from _runs import METRICS, command_line, ground, parser, row, write_records

from coterie.cli.settings import read_overrides


def main() -> None:
    given = parser(__doc__).parse_args()
    name, overrides = given.name or given.source, read_overrides(given.set)
    records: list[dict[str, Any]] = []
    for at, seed in enumerate(given.seeds):
        settings = replace(ground(given), method="pica", seed=seed, calibrate=True, overrides=overrides)
        wanted = (*METRICS, "purity", "nmi_geometric")
        found = row(given.source, settings, given.runs / f"{name}-pica-{seed}", wanted)
        record = found["record"]
        records.append(
            {
                "data": name,
                "method": "pica",
                "n": record["source"]["n"],
                "k": given.k,
                "seed": seed,
                "seconds": found["seconds"],
                "skipped": len(record["source"]["skipped"]),
                "metrics": found["heads"]["primary"],
                "heads": found["heads"],
                "settings": record["stages"][-1]["settings"],
                "calibration": record["calibration"],
                "views": record["views"],
                "backbone": record["backbone"]["name"],
                "precision": record["precision"]["value"],
                "machine": record["machine"],
            }
        )
        command = command_line("pica_reference", given, given.seeds[: at + 1])
        write_records(f"pica_reference_{name}", command, records)


if __name__ == "__main__":
    main()
