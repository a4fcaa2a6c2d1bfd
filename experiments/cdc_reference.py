"""CDC from scratch on one data set: MoCo-v2 + K-means, initialised heads, random heads, CDC-Clu and CDC-Cal, by seed.

    python experiments/cdc_reference.py fashion-mnist -k 10 --seeds 0 1 2 --runs runs/reference

Every row is a run folder below --runs, and a run that was interrupted goes on where it stopped, so the command can be
given again and again until all seeds are done. Labels are read after each run, for the numbers only. Writes one record
per seed to experiments/results/cdc_reference_<data>.json. A source without a name of its own takes --name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from _runs import command_line, ground, of_stage, overrides_of, parser, row, write_records

from coterie.training.plan import RunSettings


def seed_record(
    source: str, name: str, base: RunSettings, seed: int, runs: Path, overrides: dict[str, Any]
) -> dict[str, Any]:
    """All rows of one seed; every CDC row starts from the same MoCo backbone."""
    moco = runs / f"{name}-moco-{seed}"
    before = row(source, replace(base, method="moco", seed=seed, overrides=of_stage(overrides, "moco")), moco)

    def cdc(row_name: str, **extra: Any) -> dict[str, Any]:
        epochs = extra.pop("epochs", None)
        changed = of_stage(overrides, "cdc") | {f"cdc.{key}": value for key, value in extra.items()}
        if epochs is not None:
            changed.pop("cdc.epochs", None)  # of the trained rows
        settings = replace(base, method="cdc", seed=seed, init=str(moco), epochs=epochs, overrides=changed)
        return row(source, settings, runs / f"{name}-{row_name}-{seed}")

    rows = {
        "moco_kmeans": before,
        "cdc": cdc("cdc"),
        "initialised": cdc("init", epochs=0),
        "random_heads": cdc("random", epochs=0, init="random"),
    }
    record = rows["cdc"]["record"]
    final = rows["cdc"]["heads"]["cal"]
    return {
        "data": name,
        "method": "cdc",
        "n": record["source"]["n"],
        "k": base.n_clusters,
        "seed": seed,
        "seconds": round(before["seconds"] + rows["cdc"]["seconds"], 1),
        "skipped": len(record["source"]["skipped"]),
        "metrics": final,
        "rows": {title: {"heads": entry["heads"], "seconds": entry["seconds"]} for title, entry in rows.items()},
        "settings": {
            "moco": before["stages"][0]["settings"],
            "cdc": rows["cdc"]["stages"][0]["settings"],
            "views": record["views"],
            "backbone": record["backbone"]["name"],
            "precision": record["precision"],
        },
    }


def main() -> None:
    given = parser(__doc__).parse_args()
    name = given.name or given.source
    overrides = overrides_of(given.set, ("moco", "cdc"))
    records, seeds = [], []
    for seed in given.seeds:
        seeds.append(seed)
        records.append(seed_record(given.source, name, ground(given), seed, given.runs, overrides))
        command = command_line("cdc_reference", given, seeds)
        write_records(f"cdc_reference_{name}", command, records, given.results)


if __name__ == "__main__":
    main()
