"""Does a number without labels know how many images a mini-cluster of CDC should hold? CDC on frozen features.

    python experiments/mini_clusters_rule.py mnist-5000 digits glyphs.npz --read fashion-10000 cifar10-jpeg.parquet
        [--seeds 0 1] [--each 2 5 10 25 40 80] [--forms encoder pixels] [--items 2500] [--done] [--runs FOLDER]

Of each source so many items are drawn, as an encoder sees them (taught with labels of other pictures) or as pixels:
rows of length 1, their 64 leading principal components. On each, CDC by its practical preset, but for the images in a
mini-cluster (--each, as far as K stays at least k), and with the preset's own K where it is none of these. A rule sees
two seeds and no labels of the source: it takes the value at which the mean confidence of the calibration head comes
nearest to a target.

    agreement  how far the groups of the two seeds agree at that value, matched (Jiang et al., "Assessing Generalization
               of SGD via Disagreement", ICLR 2022: the accuracy, where the runs err independently and are calibrated)
    bound      (1 + agreement) / 2, which their mean accuracy cannot exceed
    halves     how far K-means of two halves of the items agree on all of them
    heads      how far the two heads of one run agree

The first sources decide by their labels which rule is taken, if any; those after --read say once what it does. Frozen
features of sets in `frozen_heads.py --folder` are used where they are. Every run is a record below --runs; `--done`
trains nothing. Writes results/mini_clusters_rule.json.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _runs import RESULTS, claim, given_seed, kept_once
from frozen_heads import embedded, pictures
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from coterie.common.outputs import write_atomically
from coterie.contract import Facts
from coterie.evaluation import evaluate
from coterie.evaluation.ensemble import accuracy_bound
from coterie.methods.cdc import practical
from coterie.objectives.mini_clusters import practical_cells
from coterie.pipeline import run
from coterie.training.device import machine
from coterie.training.plan import RunSettings

EACH = (2, 5, 10, 25, 40, 80)
FORMS = ("encoder", "pixels")
WIDTH = 64  # principal components
SCORES = ("acc", "nmi", "ari", "ece", "confidence")
RULES = ("agreement", "bound", "halves", "heads")

Ints = NDArray[np.int64]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """One source in one of its two forms."""

    data: str
    form: str  # encoder or pixels
    rows: Rows
    classes: Ints  # for the records only
    names: list[str]

    @property
    def k(self) -> int:
        return len(self.names)

    @property
    def name(self) -> str:
        return f"{self.data}-{self.form}"


def reduced(values: NDArray[Any]) -> Rows:
    """(n, d) -> (n, 64): rows of length 1, then their leading principal components."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    found = PCA(min(WIDTH, *rows.shape), svd_solver="covariance_eigh").fit_transform(rows)
    return np.ascontiguousarray(found, dtype=np.float32)


def spaces(data: str, given: argparse.Namespace) -> list[Space]:
    """The forms of a source, both of the same items."""
    source, classes, names = pictures(data)
    name, forms = Path(data).stem, dict[str, NDArray[Any]]()
    folder = given.folder / name
    if "encoder" in given.forms:
        folder.mkdir(parents=True, exist_ok=True)
        with claim(folder / "features", wait=True):
            features, _ = embedded(source, given.encoder, folder, None)
        forms["encoder"] = np.load(features / "features.npy", mmap_mode="r")
    if "pixels" in given.forms and isinstance(source, np.ndarray):  # those of a table are not at hand
        forms["pixels"] = source
    drawn = np.sort(np.random.default_rng(0).permutation(len(classes))[: given.items])
    return [Space(name, form, reduced(values[drawn]), classes[drawn], names) for form, values in forms.items()]


def batch_of(n: int, k: int) -> int:
    """The practical preset's batch."""
    return int(practical(Facts(n, k, "embeddings", "cpu"))["batch_size"])


def values_of(space: Space, wanted: Sequence[int]) -> dict[int, int]:
    """K -> images in a mini-cluster, of all runs on it, falling K; the preset's K among them."""
    batch = batch_of(len(space.rows), space.k)
    cells = {max(space.k, round(batch / each)) for each in wanted} | {practical_cells(batch, space.k)}
    return {count: round(batch / count) for count in sorted(cells, reverse=True)}


def trained(space: Space, cells: int, seed: int, answers: Path) -> dict[str, Any]:
    """One run; its groups go to `answers`, for the agreement with other seeds."""
    settings = RunSettings(
        space.k, method="cdc", seed=seed, device="cpu", calibrate=False, overrides={"cdc.cells": cells}
    )
    done = run(space.rows, settings)
    heads = {"cal": done.assignments.probabilities.numpy(), "clu": done.assignments.heads["clu"].numpy()}
    np.savez(answers, **{name: p.argmax(1) for name, p in heads.items()})
    metrics = {name: evaluate(space.classes, p, class_names=space.names, resamples=0) for name, p in heads.items()}
    return {
        "seconds": done.record["seconds"],
        **{name: {key: round(found[key], 4) for key in SCORES} for name, found in metrics.items()},
    }


def agreement(one: Ints, other: Ints) -> float:
    return round(accuracy_bound([one, other])[0], 4)


def halves(space: Space, seed: int) -> float:
    """K-means of two halves, each asked for the groups of all items."""
    mixed = np.random.default_rng(seed).permutation(len(space.rows))
    parts = np.array_split(mixed, 2)
    found = [KMeans(space.k, n_init=5, random_state=seed).fit(space.rows[part]).predict(space.rows) for part in parts]
    return agreement(*(labels.astype(np.int64) for labels in found))


def study(space: Space, given: argparse.Namespace, seeds: list[int]) -> list[dict[str, Any]]:
    """A record for every K that has a run of each seed."""
    by_halves = [halves(space, seed) for seed in seeds]
    preset = practical_cells(batch_of(len(space.rows), space.k), space.k)
    records = []
    for cells, each in values_of(space, given.each).items():
        paths = [given.runs / f"{space.name}-{len(space.rows)}-{cells}-{seed}.json" for seed in seeds]
        if not all(path.exists() for path in paths):
            continue
        runs = [json.loads(path.read_text()) for path in paths]
        groups = [np.load(path.with_suffix(".npz")) for path in paths]
        records.append(
            {
                "data": space.data,
                "form": space.form,
                "n": len(space.rows),
                "k": space.k,
                "images_each": each,
                "cells": cells,
                "preset": cells == preset,
                "seeds": seeds,
                "seconds": [one["seconds"] for one in runs],
                "cal": [one["cal"] for one in runs],
                "clu": [one["clu"] for one in runs],
                "agreement": [agreement(a["cal"], b["cal"]) for a, b in itertools.combinations(groups, 2)],
                "heads": [agreement(one["cal"], one["clu"]) for one in groups],
                "halves": by_halves,
            }
        )
    return records


def pairs(record: dict[str, Any]) -> list[tuple[int, int]]:
    """Places of two seeds, in the order of `agreement`."""
    return list(itertools.combinations(range(len(record["seeds"])), 2))


def target(rule: str, record: dict[str, Any], pair: int) -> float:
    """What a rule wants the confidence to be, by the two seeds of this pair."""
    if rule in ("halves", "heads"):
        return statistics.mean(record[rule][i] for i in pairs(record)[pair])
    agree: float = record["agreement"][pair]
    return agree if rule == "agreement" else (1 + agree) / 2


def chosen(records: list[dict[str, Any]], rule: str) -> list[dict[str, Any]]:
    """The record that a rule takes among those of one space, for each pair of seeds."""

    def miss(pair: int, record: dict[str, Any]) -> float:
        confidence = statistics.mean(record["cal"][i]["confidence"] for i in pairs(record)[pair])
        return abs(confidence - target(rule, record, pair))

    return [min(records, key=functools.partial(miss, pair)) for pair in range(len(pairs(records[0])))]


def mean_of(records: list[dict[str, Any]], key: str) -> float:
    """Of the calibration head, over all seeds of all these records."""
    return statistics.mean(one[key] for record in records for one in record["cal"])


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", nargs="+", help="sources that decide")
    options.add_argument("--read", nargs="*", default=[], help="sources that are only read")
    options.add_argument("--seeds", type=given_seed, nargs="+", default=[0, 1])
    options.add_argument("--each", type=int, nargs="+", default=list(EACH), help="images in a mini-cluster")
    options.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    options.add_argument("--items", type=int, default=2_500)
    options.add_argument("--encoder", default="efficientnet-lite0")
    options.add_argument("--done", action="store_true", help="train nothing")
    options.add_argument("--folder", type=Path, default=Path("runs/frozen"), help="of the embeddings")
    options.add_argument("--runs", type=Path, default=Path("runs/mini-clusters"))
    options.add_argument("--results", type=Path, default=RESULTS)
    given = options.parse_args(words)
    given.runs.mkdir(parents=True, exist_ok=True)
    found = [(data in given.read, space) for data in (*given.data, *given.read) for space in spaces(data, given)]
    for _, space in [] if given.done else found:
        for seed, cells in itertools.product(given.seeds, values_of(space, given.each)):
            path = given.runs / f"{space.name}-{len(space.rows)}-{cells}-{seed}.json"
            make = functools.partial(trained, space, cells, seed, path.with_suffix(".npz"))
            print(path.stem, kept_once(path, make, wait=True), flush=True)
    command = ["python experiments/mini_clusters_rule.py", *(Path(data).name for data in given.data)]
    command += ["--read", *(Path(data).name for data in given.read)] if given.read else []
    for name in ("seeds", "each", "forms"):
        command += [f"--{name}", *map(str, getattr(given, name))]
    command += ["--items", str(given.items)]
    records = [{**record, "read": read} for read, space in found for record in study(space, given, given.seeds)]
    content = {"command": " ".join(command), "machine": machine(), "records": records}
    write_atomically(given.results / "mini_clusters_rule.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
