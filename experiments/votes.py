"""How sure the votes of `spectral` are, by the number of items: with 50 voters, and with a tenth of a group.

    python experiments/votes.py digits mnist-5000 fashion-10000 [--items 600 1797 ...] [--seeds 0 1] [--folder FOLDER]

Data and embeddings are those of frozen_heads.py. So many items are drawn and grouped by `spectral` with its defaults;
then 50 near landmarks vote (half of a mean group, where that is fewer), or a tenth of a mean group. More items of the
same kind do not make groups clearer, so the mean confidence, which needs no labels, should stay; ACC and ECE stand
beside it. Writes experiments/results/votes.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from _runs import METRICS, RESULTS, given_seed
from frozen_heads import embedded, pictures

from coterie.algorithms.votes import FEWEST, OF_GROUP
from coterie.common.outputs import write_atomically
from coterie.evaluation import evaluate
from coterie.pipeline import run
from coterie.training.device import machine
from coterie.training.plan import RunSettings

MOST = 50


def of_size(values: np.ndarray, classes: np.ndarray, k: int, n: int, seed: int) -> dict[str, dict[str, float]]:
    """The metrics of n drawn items by either number of voters."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(values))[:n])
    done = run(values[drawn], RunSettings(n_clusters=k, method="spectral", device="cpu", seed=seed, calibrate=False))
    found = {}
    for name, voters in (("fixed", max(3, min(MOST, n // (2 * k)))), ("of a group", max(FEWEST, n // (OF_GROUP * k)))):
        done.model.net.votes.neighbours = voters
        said = done.model.predict(done.source).probabilities
        numbers = evaluate(classes[drawn], said, class_names=[str(group) for group in range(k)], resamples=0)
        found[name] = {"voters": voters, **{key: round(numbers[key], 4) for key in METRICS}}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--items", type=int, nargs="+", default=[300, 600, 1200, 1797, 2500, 5000, 10_000])
    parser.add_argument("--seeds", type=given_seed, nargs="+", default=[0, 1])
    parser.add_argument("--folder", type=Path, default=Path("runs/frozen"))
    given = parser.parse_args()
    records: list[dict[str, Any]] = []
    for data in given.data:
        source, classes, names = pictures(data)
        features, _ = embedded(source, "efficientnet-lite0", given.folder / Path(data).stem, None)
        values = np.load(features / "features.npy").astype(np.float32)
        for n in (n for n in given.items if n <= len(values)):
            for seed in given.seeds:
                found = of_size(values, classes, len(names), n, seed)
                records.append({"data": Path(data).stem, "n": n, "k": len(names), "seed": seed, **found})
                print(records[-1], flush=True)
    command = f"python experiments/votes.py {' '.join(Path(data).name for data in given.data)}"
    content = {"command": command, "machine": machine(), "records": records}
    write_atomically(RESULTS / "votes.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
