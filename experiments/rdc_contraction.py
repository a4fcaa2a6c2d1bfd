"""How far R-DC's construction gets by itself: the codes of a phase 1 move to their centroids; nothing is trained.

    python experiments/rdc_contraction.py fashion-mnist -k 10 --init runs/autoencoders/fashion-mnist-acai-0

In each step every core point goes half way to the centroid of its reliable neighbours, then neighbours, filters and
centroids are found anew: phase 2 without the net and without reconstruction, which only hold it back. Thresholds are
chosen as R-DC chooses them; the last rows have no filters, every point being core and every neighbour reliable. Labels
are read for the numbers only. Writes results/rdc_contraction_<data>.json and .md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from _pages import in_words, markdown
from _runs import RESULTS, write_records
from torch import Tensor

from coterie.algorithms.kmeans import kmeans
from coterie.algorithms.neighbours import nearest
from coterie.common.outputs import write_atomically
from coterie.data import Labels, labels_of, open_source
from coterie.evaluation import accuracy, nmi
from coterie.networks.features import extract_features
from coterie.objectives.proximity import choose_filters, gap_scale, proximity
from coterie.prediction.model import load_model
from coterie.training.device import machine
from coterie.types import InputError

ROWS: dict[str, tuple[int, float | None, float]] = {  # neighbours, share of core points, of accepted neighbours
    "R-DC's own: M = 5, half core, 65 % accepted": (5, 0.5, 0.65),
    "M = 5, 90 % core, 90 % accepted": (5, 0.9, 0.9),
    "M = 20, 90 % core, 90 % accepted": (20, 0.9, 0.9),
    "M = 5, no filters": (5, None, 1.0),
    "M = 20, no filters": (20, None, 1.0),
}
SHOWN = (0, 2, 5, 10, 20)
PACE = 0.5


def contract(z: Tensor, neighbours: int, core_share: float | None, accepted: float, steps: int) -> list[dict[str, Any]]:
    """The codes after each step, from the start on, with the share of core points that the step found."""
    scale: Any = "median"
    chosen = (-1.0, float("inf"))  # every ratio is above, every gap below
    if core_share is not None:
        chosen = choose_filters(nearest(z, neighbours)[0], core_share, accepted, scale)
    found = []
    for _ in range(steps + 1):
        distance, neighbour = nearest(z, neighbours)
        near = proximity(z, distance, neighbour, *chosen, scale=gap_scale(distance, scale))
        found.append({"z": z, "core_share": near.core_share})
        z = torch.where(near.core[:, None], z + PACE * (near.centroid - z), z)
    return found


def scores(z: Tensor, k: int, labels: Labels) -> dict[str, float]:
    groups = kmeans(z, k, generator=torch.Generator().manual_seed(0), restarts=20).labels.numpy()
    return {"acc": accuracy(labels.codes, groups), "nmi": nmi(labels.codes, groups)}


def records_of(z: Tensor, k: int, labels: Labels, steps: tuple[int, ...] = SHOWN) -> list[dict[str, Any]]:
    found = []
    for title, (neighbours, core_share, accepted) in ROWS.items():
        states = contract(z, neighbours, core_share, accepted, max(steps))
        for step in steps:
            state = states[step]
            found.append(
                {"title": title, "step": step, "core_share": state["core_share"], **scores(state["z"], k, labels)}
            )
    return found


def page(records: list[dict[str, Any]], command: str, n: int) -> str:
    steps = sorted({record["step"] for record in records})
    rows = []
    for title in dict.fromkeys(record["title"] for record in records):
        mine = {record["step"]: record for record in records if record["title"] == title}
        cells = [
            f"{100 * mine[step]['acc']:.1f} / {100 * mine[step]['nmi']:.1f} / {100 * mine[step]['core_share']:.0f}"
            for step in steps
        ]
        rows.append([title, *cells])
    about = (
        f"ACC / NMI of K-means / share of core points, percent, after so many steps half way to the centroid, "
        f"{n} images, one run of phase 1; {in_words(machine())}."
    )
    table = markdown(["", *(f"{step} steps" for step in steps)], rows)
    return f"# R-DC's construction without a net\n\n{about}\n\n{table}\n\n`{command}`\n"


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source")
    options.add_argument("-k", type=int, required=True)
    options.add_argument("--init", type=Path, required=True, help="a run of phase 1 (acai, ae)")
    options.add_argument("--items", type=int, default=5_000, help="images that are drawn, by a seed of their own")
    options.add_argument("--results", type=Path, default=RESULTS)
    given = options.parse_args(words)
    model = load_model(given.init)
    source = open_source(given.source, like=model.spec)
    found = labels_of(given.source, source.ids)
    if found is None:
        raise InputError(f"{given.source} carries no labels, without which there is nothing to compare.")
    rows = torch.randperm(len(source.items), generator=torch.Generator().manual_seed(0))[: given.items]
    labels = Labels(found.codes[rows.numpy()], found.names)
    records = records_of(extract_features(model.net, source.items, rows), given.k, labels)
    command = f"python experiments/rdc_contraction.py {given.source} -k {given.k} --init runs/{given.init.name}"
    command += f" --items {given.items}"
    name = f"rdc_contraction_{Path(given.source).name}"
    write_records(name, command, records, given.results)
    write_atomically(given.results / f"{name}.md", page(records, command, len(rows)))


if __name__ == "__main__":
    main()
