"""A folder of photos by `coterie fit FOLDER -k K` with its defaults, beside K-means on the same embeddings.

    python experiments/photos.py TABLE [-k 10] [--pictures 3000] [--seeds 0 1 2] [--finetune] [--folder runs/photos]

TABLE is a .parquet of pictures with a column of labels. So many of its pictures, drawn at random, become files of a
folder; each seed is one run of the command in a process of its own. Accuracy and the rest come from the labels, which
the command never sees. experiments/results/photos.json has the numbers; runs and embeddings stay in `--folder`, and
what is there is not run again. `--finetune`: each run's encoder (of these seeds) is then trained on, by `--init RUN
--finetune`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from _runs import METRICS, RESULTS, given_seed, label_free
from sklearn.cluster import KMeans

from coterie.common.outputs import write_atomically
from coterie.data import labels_of, open_source
from coterie.data.tables import picture_cells
from coterie.evaluation import evaluate
from coterie.measuring import evaluate_run
from coterie.prediction.results import read_result
from coterie.training.device import machine

RESTARTS = 10


def photos(table: Path, count: int, folder: Path) -> Path:
    """`count` pictures of the table, drawn by seed 0, as the files that they are, and labels.json beside the folder."""
    ids, cells = picture_cells(table, None, 256 << 20)
    labels = labels_of(str(table), ids)
    assert labels is not None, f"{table} carries no labels"
    rows = np.sort(np.random.default_rng(0).choice(len(ids), min(count, len(ids)), replace=False)).tolist()
    if not folder.exists():
        folder.mkdir(parents=True)
        for row in rows:
            (folder / f"{row:06d}.jpg").write_bytes(cells(row) or b"")
        known = {f"{row:06d}.jpg": int(labels.codes[row]) for row in rows}
        (folder.parent / "labels.json").write_text(json.dumps(known))
    return folder


def by_coterie(source: Path, words: list[str], seed: int, out: Path) -> dict[str, Any]:
    """One run of the command with these options, its seconds on the clock with everything, and its metrics."""
    stated = out.with_suffix(".json")
    if not stated.exists():
        command = [sys.executable, "-m", "coterie", "fit", str(source), *words, "-o", str(out), "-q"]
        before, begun = os.times(), time.monotonic()
        subprocess.run([*command, "--seed", str(seed), "--device", "cpu"], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        times = {"seconds": round(time.monotonic() - begun, 1), "processor_seconds": round(spent, 1)}
        stated.write_text(json.dumps({**times, "load": [round(value, 1) for value in os.getloadavg()]}))
    metrics = evaluate_run(out, labels_for(out))
    heads = {name: {key: round(head[key], 4) for key in METRICS} for name, head in metrics["heads"].items()}
    return {"seed": seed, **json.loads(stated.read_text()), "heads": heads}


def labels_for(run: Path) -> Any:
    from coterie.data import read_label_file

    return read_label_file(run.parent / "labels.json", read_result(run / "result.parquet").ids, [], None)


def by_kmeans(run: Path, k: int, seed: int) -> dict[str, Any]:
    """scikit-learn's K-means on the embeddings of a run: as they are, and on the sphere."""
    source = open_source(run / "cache" / "features")
    rows = np.asarray(source.items.array, np.float32)  # type: ignore[attr-defined]
    found: dict[str, Any] = {"seed": seed}
    for name, points in (("raw", rows), ("l2", rows / np.linalg.norm(rows, axis=1, keepdims=True))):
        begun = time.monotonic()
        groups = KMeans(k, n_init=RESTARTS, random_state=seed).fit_predict(points)
        known = labels_for(run)
        metrics = evaluate(known.codes, np.eye(k, dtype=np.float32)[groups], class_names=known.names, resamples=0)
        seconds = round(time.monotonic() - begun, 1)
        found[name] = {**{key: round(metrics[key], 4) for key in ("acc", "nmi", "ari")}, "seconds": seconds}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--seeds", type=given_seed, nargs="+", default=[0])
    parser.add_argument("--finetune", type=int, nargs="*", help="train the encoder of these seeds on; of all, if bare")
    parser.add_argument("--folder", type=Path, default=Path("runs/photos"))
    asked = parser.parse_args()
    source = photos(asked.table, asked.pictures, asked.folder / "photos")
    folders = {seed: asked.folder / f"seed-{seed}" for seed in asked.seeds}
    runs = [by_coterie(source, ["-k", str(asked.k)], seed, folder) for seed, folder in folders.items()]
    further = [] if asked.finetune is None else asked.finetune or asked.seeds
    tuned = [
        by_coterie(source, ["--init", str(folders[seed]), "--finetune"], seed, asked.folder / f"tuned-{seed}")
        for seed in further
    ]
    first = folders[asked.seeds[0]]
    record = label_free(first)
    content = {
        "command": f"python experiments/photos.py {asked.table.name} -k {asked.k} --pictures {asked.pictures} --seeds "
        + " ".join(map(str, asked.seeds))
        + (" --finetune" if further else "")
        + (" " + " ".join(map(str, further)) if further and further != asked.seeds else ""),
        "machine": machine(),
        "data": f"{asked.table.stem}, {record['source']['n']} pictures",
        "encoding": record["source"]["spec"]["encoding"],
        "features": f"taught by {record['source']['spec']['encoding']['taught']}",
        "coterie": runs,
        "finetuned": tuned,
        "kmeans": [by_kmeans(first, asked.k, seed) for seed in asked.seeds],
    }
    path = RESULTS / "photos.json"
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
