"""R-DC's open readings and weights, one changed at a time from κ = 30, on one phase 1 a seed.

    OMP_NUM_THREADS=1 python experiments/rdc_search.py fashion-mnist -k 10 --seeds 0 1 2 --runs runs/autoencoders

The rows of `EVERY_SEED` are run for all seeds, the others for the first. All else is the practical preset's,
but inputs are shifted where a row does not say otherwise.

Phase 1 (`acai`) is the run of experiments/autoencoders.py where --runs has it. Every row is a run folder and a record
below --runs: the same command goes on where it was stopped, and several of them may be at work side by side. Labels are
read after each run, for the numbers only; no preset follows from them. Writes results/rdc_search_<data>.json and .md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from _pages import in_words, markdown, over_seeds
from _rows import Rows
from _runs import command_line, ground, kept_once, overrides_of, parser, write_records
from autoencoders import LINES, METRICS

from coterie.algorithms.nearest_mean import neighbour_agreement
from coterie.common.outputs import write_atomically
from coterie.data import open_source
from coterie.prediction.results import read_result

STILL = {"views.shift": 0.0, "views.turn": 0.0}
START = "κ = 30, gaps in medians, centroids frozen for an epoch"
VARIANTS: dict[str, dict[str, Any]] = {
    "κ = 0.1": {"rdc.image_weight": 0.1},
    "κ = 1": {"rdc.image_weight": 1.0},
    "κ = 10": {"rdc.image_weight": 10.0},
    START: {},
    "κ = d / 10": {"rdc.image_weight": 78.4},
    "learning rate 1e-3": {"rdc.learning_rate": 1e-3},
    "κ = 1, learning rate 1e-3": {"rdc.image_weight": 1.0, "rdc.learning_rate": 1e-3},
    "κ = 1, learning rate 1e-3, 20 neighbours": {
        "rdc.image_weight": 1.0,
        "rdc.learning_rate": 1e-3,
        "rdc.neighbours": 20,
    },
    "κ = 0.01": {"rdc.image_weight": 0.01},
    "no augmentation": STILL,
    "κ = 0.1, no augmentation": {"rdc.image_weight": 0.1, **STILL},
    "core share 0.9 instead of 0.5": {"rdc.core_share": 0.9},
    "border items hold their own code": {"rdc.include_border": True},
    "gap relative to the nearest (R2)": {"rdc.gap_scale": "relative"},
    "core share 0.2 instead of 0.5": {"rdc.core_share": 0.2},
    "accepted 0.3 instead of 0.65": {"rdc.accepted": 0.3},
    "neighbours of every batch anew": {"rdc.refresh": "bank"},
    "κ = 0.1, 20,000 iterations, no stop rule": {
        "rdc.image_weight": 0.1,
        "rdc.epochs": 73,
        "rdc.stop": "never",
    },
}
EVERY_SEED = ("κ = 0.1", "κ = 1", START, "no augmentation", "κ = 0.1, no augmentation")
COLUMNS = {"acc": "ACC", "f1": "macro F1", "nmi": "NMI", "ari": "ARI", "agreement": "neighbours agree (no labels)"}


@dataclass(frozen=True)
class Search(Rows):
    """Rows of the auto-encoder study that all go on from its `acai`, each with settings of its own."""

    changes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def first(self, seeds: list[int]) -> list[dict[str, Any]]:
        """Phase 1 by itself, of every seed."""
        return [self.judged(record, self.out("acai", record["seed"])) for record in self.records(["acai"], seeds)]

    def variant(self, title: str, seed: int, *, wait: bool = True) -> dict[str, Any] | None:
        """The record of a row and seed, trained where there is none; None while another process is at it."""
        settings = self.settings("rdc", seed)
        changed = {"rdc.image_weight": 30.0, "rdc.augment": True, **settings.overrides, **self.changes[title]}
        name = "+".join(
            ["rdc", *(f"{key.split('.')[1]}={value}" for key, value in sorted(self.changes[title].items()))]
        )
        out = self.out(name, seed)

        def make() -> dict[str, Any]:
            return self.judged(self.made("rdc", replace(settings, overrides=changed), out), out)

        record = kept_once(self.runs / "records" / f"search-{out.name}.json", make, wait=wait)
        return None if record is None else {**record, "title": title}

    def judged(self, record: dict[str, Any], out: Path) -> dict[str, Any]:
        """With the share of an image's ten nearest in pixels that are in its group, a number that needs no labels."""
        labels = torch.tensor(read_result(out / "result.parquet").labels, dtype=torch.long)
        items = open_source(self.source).items
        pixels = items.take(torch.arange(len(items))).flatten(1).float()
        record["metrics"]["agreement"] = neighbour_agreement(pixels, labels, "euclidean")
        return record


def page(first: list[dict[str, Any]], records: list[dict[str, Any]], command: str) -> str:
    rows = {"phase 1 alone": first}
    for record in records:
        rows.setdefault(record["title"], []).append(record)
    rows = {title: sorted(mine, key=lambda record: int(record["seed"])) for title, mine in rows.items()}
    body = markdown(
        ["", *COLUMNS.values(), "seconds", "seeds"],
        [[title, *over_seeds(mine, COLUMNS)] for title, mine in rows.items()],
    )
    about = (
        f"{first[0]['data']}: {first[0]['n']} images, {first[0]['k']} groups; {in_words(records[0]['machine'])}. "
        "Percent, last epoch; every row goes on from the same phase 1 of its seed."
    )
    return f"# R-DC: one change at a time\n\n{about}\n\n{body}\n\n`{command}`\n"


def main() -> None:
    given = parser(__doc__).parse_args()
    data = given.name or given.source
    overrides = overrides_of(given.set, ("acai", "rdc"))
    study = Search(data, given.source, ground(given), given.runs, overrides, LINES, METRICS, changes=VARIANTS)
    first = study.first(given.seeds)
    command = command_line("rdc_search", given, given.seeds)
    jobs = [(title, seed) for title in VARIANTS for seed in (given.seeds if title in EVERY_SEED else given.seeds[:1])]
    found: dict[tuple[str, int], dict[str, Any]] = {}

    def keep(job: tuple[str, int], record: dict[str, Any] | None) -> bool:
        if record is not None:
            found[job] = record
            records = [found[one] for one in jobs if one in found]
            write_records(f"rdc_search_{data}", command, [*first, *records], given.results)
            write_atomically(given.results / f"rdc_search_{data}.md", page(first, records, command))
        return record is not None

    while pending := [job for job in jobs if job not in found]:
        if not any(keep(job, study.variant(*job, wait=False)) for job in pending):
            keep(pending[0], study.variant(*pending[0]))  # the others are all being made


if __name__ == "__main__":
    main()
