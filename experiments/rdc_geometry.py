"""Figures 14 and 15 of the R-DC paper by both definitions, on the codes of the runs of `rdc_claim.py`.

    python experiments/rdc_geometry.py fashion-mnist -k 10 --runs runs/claim

For every run of the claim that is done, on --items of its items drawn by a fixed seed: intrinsic dimension (ID) and
linear dimension (LID), as means over true classes and over K-means groups, which is what the authors' code takes. LID
is here the number of components above 90 % of the variance, there the zero-based index of the component at which
99.99 % are passed. Beside it the share of core items' neighbours that are of the item's class, before and after the
second filter (Figure 14): of the neighbours themselves, and as the authors' code counts, where the item stands in the
place of its nearest neighbour and the farthest one is left out. Thresholds and rules are those of `rdc_claim.py`'s row
`code`. Labels are read by this script only. Writes results/rdc_geometry_<data>.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from _runs import RESULTS, label_free, write_records
from jaxtyping import Bool, Float, Int
from rdc_claim import CODE, ROWS
from torch import Tensor

from coterie.algorithms.geometry import geometry_of, linear_dimension
from coterie.algorithms.kmeans import kmeans
from coterie.algorithms.neighbours import nearest
from coterie.data import labels_of, open_source
from coterie.networks.features import extract_features
from coterie.objectives.proximity import Rules, density_ratio, gap_start, proximity
from coterie.prediction.model import load_model

THEIRS = 0.9999
SMALLEST = 50
RULES = Rules(CODE["rdc.gap_from"], CODE["rdc.when_none"])


def dimensions(z: Float[Tensor, "n d"], groups: Int[Tensor, " n"]) -> dict[str, float]:
    """ID and LID as means over groups, and LID as the authors' code has it."""
    shape = geometry_of(z, groups, smallest=SMALLEST)
    parts = [z[groups == group] for group in groups.unique() if int((groups == group).sum()) >= SMALLEST]
    theirs = [linear_dimension(part, THEIRS, legacy_zero_based=True) for part in parts]
    return {"intrinsic": shape.intrinsic, "linear": shape.linear, "linear_theirs": sum(theirs) / len(theirs)}


def true_shares(
    true: Bool[Tensor, "n m"], distance: Float[Tensor, "n m"], core_ratio: float, gap: float
) -> dict[str, float | None]:
    """Shares of core items' neighbours that are of the item's class: `true`, and `theirs`, the item itself counted.

    Their j-th of k accepted neighbours is judged by the label of the one before it, the item itself for the first: of m
    neighbours of whom a share π is of the item's class, that gives (1 + (m - 1) π) / m. They count with the smallest
    distance that their loop has ended with, so other neighbours than those that make the centroids. None without core
    items, or without accepted neighbours.
    """
    core = density_ratio(distance) > core_ratio
    start = gap_start(distance, core, "running")
    kept, late = ((distance - since < gap)[core] for since in (start, start[-1:]))
    true = true[core]
    accepted = late.sum(1, keepdim=True)  # always the nearest ones
    before_last = torch.arange(true.shape[1]) < accepted - 1
    shown = float((accepted >= 1).sum() + (true & before_last).sum())
    return {
        "true_before": share(float(true.sum()), true.numel()),
        "true_after": share(float((true & kept).sum()), float(kept.sum())),
        "theirs_before": share(float(len(true) + true[:, :-1].sum()), true.numel()),
        "theirs_after": share(shown, float(accepted.sum())),
    }


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def measured(z: Float[Tensor, "n d"], truth: Int[Tensor, " n"], k: int, drawn: Int[Tensor, " s"]) -> dict[str, Any]:
    """Of codes of all items; dimensions of those drawn."""
    groups = kmeans(z, k, generator=torch.Generator().manual_seed(0), restarts=20).labels
    distance, neighbour = nearest(z, CODE["rdc.neighbours"])
    core_ratio, gap = CODE["rdc.core_ratio"], CODE["rdc.gap"]
    found = proximity(z, distance, neighbour, core_ratio, gap, rules=RULES)
    spread = torch.linalg.eigvalsh(z.double().T.cov()).flip(0).clamp(min=0).sqrt()
    return {
        "deviations": [round(float(value), 4) for value in spread],  # along the principal directions
        "core_share": found.core_share,
        "accepted": found.accepted,
        "classes": dimensions(z[drawn], truth[drawn]),
        "kmeans": dimensions(z[drawn], groups[drawn]),
        "neighbours": true_shares(truth[neighbour] == truth[:, None], distance, core_ratio, gap),
    }


def titles(data: str, runs: Path) -> list[tuple[str, int, Path]]:
    """Row, seed and folder of every run of the claim that is done."""
    found = []
    names = {f"{data}-acai": "phase 1", **{f"{data}-rdc-{i}": row for i, row in enumerate(ROWS)}}
    for name, title in names.items():
        for folder in sorted(runs.glob(f"{name}-[0-9]*")):
            seed = folder.name.removeprefix(f"{name}-")
            if seed.isdigit() and (folder / "run.yaml").exists() and label_free(folder)["status"] == "done":
                found.append((title, int(seed), folder))
    return found


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source")
    options.add_argument("-k", type=int, required=True)
    options.add_argument("--items", type=int, default=10_000, help="of which dimensions are measured")
    options.add_argument("--runs", type=Path, default=Path("runs/claim"))
    options.add_argument("--results", type=Path, default=RESULTS)
    given = options.parse_args(words)
    data = Path(given.source).name
    records: list[dict[str, Any]] = []
    for title, seed, folder in titles(data, given.runs):
        model = load_model(folder)
        source = open_source(given.source, like=model.spec)
        labels = labels_of(given.source, source.ids)
        assert labels is not None, f"{given.source} carries no labels"
        drawn = torch.randperm(len(source.items), generator=torch.Generator().manual_seed(0))[: given.items]
        found = measured(extract_features(model.net, source.items), torch.as_tensor(labels.codes), given.k, drawn)
        records.append({"data": data, "title": title, "seed": seed, "n": len(source.items), **found})
        print(records[-1], flush=True)
    command = f"python experiments/rdc_geometry.py {given.source} -k {given.k} --items {given.items} --runs runs/claim"
    write_records(f"rdc_geometry_{data}", command, records, given.results)


if __name__ == "__main__":
    main()
