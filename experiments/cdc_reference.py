"""CDC from scratch on one data set: MoCo-v2 + K-means, initialised heads, random heads, CDC-Clu and CDC-Cal, by seed.

    python experiments/cdc_reference.py fashion-mnist -k 10 --seeds 0 1 2 --runs runs/reference

Every row is a run folder below --runs, and a run that was interrupted goes on where it stopped, so the command can be
given again and again until all seeds are done. Labels are read after each run, for the numbers only. Writes one record
per seed to experiments/results/cdc_reference_<data>.json. A source without a name of its own takes --name.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from coterie.cli.settings import read_overrides
from coterie.data import labels_of
from coterie.pipeline import Watch, evaluate_run, run
from coterie.training.device import machine
from coterie.training.plan import RunSettings
from coterie.training.runfolder import read_run

RESULTS = Path(__file__).parent / "results"
METRICS = ("acc", "nmi", "ari", "ece", "confidence")


def row(source: str, settings: RunSettings, out: Path) -> dict[str, Any]:
    """One run, from its folder where it is there already; its metrics by head and its seconds."""
    done = (out / "run.yaml").exists() and read_run(out)["status"] == "done"
    if not done:
        watch = Watch(
            after_epoch=[lambda record, net: print(out.name, record.stage, record.epoch, record.losses, flush=True)]
        )
        run(source, settings, out, resume=(out / "run.yaml").exists(), watch=watch)
    labels = labels_of(source, read_ids(out))
    assert labels is not None, f"{source} carries no labels"
    metrics, record = evaluate_run(out, labels), read_run(out)
    heads = {name: {key: head[key] for key in METRICS} for name, head in metrics["heads"].items()}
    print(out.name, heads, flush=True)
    return {"heads": heads, "seconds": record["seconds"], "stages": record["stages"], "record": record}


def read_ids(out: Path) -> list[str]:
    from coterie.prediction.results import read_result

    return read_result(out / "result.parquet").ids


def seed_record(source: str, name: str, k: int, seed: int, runs: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """All rows of one seed; every CDC row starts from the same MoCo backbone."""
    moco = runs / f"{name}-moco-{seed}"
    view = {key: value for key, value in overrides.items() if key.startswith("views.")}
    for_moco = {key: value for key, value in overrides.items() if key.startswith("moco.")} | view
    for_cdc = {key: value for key, value in overrides.items() if key.startswith("cdc.")} | view
    before = row(source, RunSettings(k, "moco", seed=seed, overrides=for_moco), moco)

    def cdc(row_name: str, **extra: Any) -> dict[str, Any]:
        epochs = extra.pop("epochs", None)
        changed = for_cdc | {f"cdc.{key}": value for key, value in extra.items()}
        settings = RunSettings(k, "cdc", seed=seed, init=str(moco), epochs=epochs, overrides=changed)
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
        "k": k,
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


def command_line(script: str, name: str, k: int, seeds: list[int], overrides: list[str]) -> str:
    """The command that makes a record, without the folders of the machine it was made on."""
    words = [f"python experiments/{script}.py", name, "-k", str(k), "--seeds", *map(str, seeds)]
    return " ".join([*words, *(f"--set {text}" for text in overrides)])


def arguments(description: str | None) -> argparse.Namespace:
    """The options that experiments on one source share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("-k", type=int, required=True)
    parser.add_argument("--name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/reference"))
    parser.add_argument("--set", action="append", default=[], help="as in coterie fit, e.g. moco.epochs=40")
    return parser.parse_args()


def main() -> None:
    given = arguments(__doc__)
    name = given.name or given.source
    records, seeds = [], []
    for seed in given.seeds:
        seeds.append(seed)
        records.append(seed_record(given.source, name, given.k, seed, given.runs, read_overrides(given.set)))
        command = command_line("cdc_reference", name, given.k, seeds, given.set)
        content = {"command": command, "machine": machine(), "records": records}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"cdc_reference_{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
