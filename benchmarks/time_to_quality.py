"""Seconds until a good answer, and to the end, beside what one would take instead on the same machine.

    python benchmarks/time_to_quality.py --data digits --seeds 0
    python benchmarks/time_to_quality.py --data digits fashion-mnist-10000 fashion-mnist cifar10 --seeds 0 1 2
    python benchmarks/time_to_quality.py --data cifar10-3000 --cifar10 TABLE

Each contender runs in a process of its own, one after the other, from its start (imports) to the labels, and of
coterie to the report: `coterie fit` with its defaults; ClustPy's DEC and DCN with theirs (`pip install clustpy`; else
they say "not run"); scikit-learn's K-means and Gaussian mixture on the same features, which are pixels, or the
embeddings where coterie takes an encoder, whose seconds then count. `to_target` are the seconds until the ACC of
`TARGETS` is reached: of coterie after each epoch of its last stage (the net is kept in memory after each; labels are
read when the run is over), of the others at their end, since they show no answer before. True labels choose nothing.
`--cifar10` names a table of its pictures with labels, in place of the named set.
Numbers of an earlier call are kept; --again measures them anew. The authors' loops have a benchmark of their own,
beside_authors.py. Writes benchmarks/results/time_to_quality.json after each contender.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _measure import RESULTS, write_results

# The source, how many of its items (None: all), and the ACC that counts as good.
TARGETS: dict[str, tuple[str, int | None, float]] = {
    "digits": ("digits", None, 0.90),
    "fashion-mnist-10000": ("fashion-mnist", 10_000, 0.60),
    "fashion-mnist": ("fashion-mnist", None, 0.60),
    "cifar10-3000": ("cifar10", 3000, 0.50),
    "cifar10": ("cifar10", None, 0.60),
}
CONTENDERS = ("coterie", "clustpy-dec", "clustpy-dcn", "sklearn-kmeans", "sklearn-mixture")
K = 10
TABLE = "TIME_TO_QUALITY_CIFAR10"  # to the processes that measure: the table in place of the named set


def items_of(data: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, ...) and true labels, those drawn by a fixed seed where not all are taken."""
    import torch

    from coterie.data import labels_of, open_source

    name, count, _ = TARGETS[data]
    name = os.environ.get(TABLE, name) if name == "cifar10" else name
    source = open_source(name)
    labels = labels_of(name, source.ids)
    assert labels is not None
    rows = np.arange(len(source.items))
    if count is not None:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
    pixels = source.items.take(torch.from_numpy(rows)).permute(0, 2, 3, 1).numpy()
    return (pixels[..., 0] if pixels.shape[3] == 1 else pixels), labels.codes[rows]


def features_of(data: str, x: np.ndarray) -> np.ndarray:
    """What scikit-learn is given: embeddings where coterie takes an encoder for such pictures, else pixels."""
    if TARGETS[data][0] != "cifar10":
        return x.reshape(len(x), -1).astype(np.float32) / 255
    import coterie

    return coterie.embed(x, device="cpu")


def coterie_fit(data: str, seed: int, begun: float) -> dict[str, Any]:
    """A run with its report; the net of each epoch of the last stage is looked at when all is over."""
    from coterie.evaluation import accuracy
    from coterie.pipeline import run
    from coterie.report import write_report
    from coterie.training import engine
    from coterie.training.plan import RunSettings

    x, codes = items_of(data)
    kept: list[tuple[str, float, dict[str, Any]]] = []
    copying, whole = 0.0, engine.Training.epoch

    def epoch(self: Any, stop: Any) -> None:
        nonlocal copying
        whole(self, stop)
        now = time.time()
        kept.append((self.stage.name, now - begun - copying, {k: v.clone() for k, v in self.net.state_dict().items()}))
        copying += time.time() - now

    engine.Training.epoch = epoch  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        done = run(x, RunSettings(K, "auto", seed=seed, device="cpu"), Path(folder) / "run")
        write_report(Path(folder) / "run")
        whole_seconds = time.time() - begun - copying
    last = done.record["stages"][-1]["name"]
    answer, course = float(accuracy(codes, done.assignments.probabilities.argmax(1).numpy())), []
    for stage, seconds, state in kept:
        if stage == last:
            done.model.net.load_state_dict(state, strict=False)
            found = done.model.predict(done.source).probabilities.argmax(1).numpy()
            course.append((round(seconds, 1), round(float(accuracy(codes, found)), 4)))
    stages = [stage["name"] for stage in done.record["stages"]]
    return {"acc": answer, "seconds": whole_seconds, "course": course, "stages": stages}


def other(name: str, data: str, seed: int, begun: float) -> dict[str, Any]:
    """A contender that only answers at its end."""
    from coterie.evaluation import accuracy

    x, codes = items_of(data)
    library, _, method = name.partition("-")
    if library == "clustpy":
        from clustpy import deep

        rows = x.reshape(len(x), -1).astype(np.float32) / 255
        labels = {"dec": deep.DEC, "dcn": deep.DCN}[method](K, random_state=seed).fit(rows).labels_
    else:
        from sklearn.cluster import KMeans
        from sklearn.mixture import GaussianMixture

        rows = features_of(data, x)
        model = KMeans(K, n_init=10, random_state=seed) if method == "kmeans" else GaussianMixture(K, random_state=seed)
        labels = model.fit_predict(rows)
    return {"acc": float(accuracy(codes, np.asarray(labels))), "seconds": time.time() - begun}


def measure(name: str, data: str, seed: int) -> dict[str, Any]:
    """A contender in this process, timed from the start of the process."""
    import psutil

    begun = psutil.Process().create_time()
    found = coterie_fit(data, seed, begun) if name == "coterie" else other(name, data, seed, begun)
    used, target = os.times(), TARGETS[data][2]
    course = found.get("course", []) or [(found["seconds"], found["acc"])]
    reached = [seconds for seconds, acc in course if acc >= target]
    return {
        "status": "done",
        **found,
        "acc": round(found["acc"], 4),
        "seconds": round(found["seconds"], 1),
        "to_target": round(reached[0], 1) if reached else None,
        "cpu_seconds_with_looking": round(used.user + used.system, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def in_its_own_process(name: str, data: str, seed: int, limit: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", name, data, str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"status": f"stopped after {limit:.0f} s"}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"status": f"not run ({last[:200]})"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", nargs="+", choices=TARGETS, default=list(TARGETS))
    options.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--limit", type=float, default=7200.0, help="seconds for each")
    options.add_argument("--again", action="store_true", help="measure anew what is done")
    options.add_argument("--note", default="", help="said in the file, such as what else the machine did")
    options.add_argument("--cifar10", metavar="TABLE", help="its pictures and labels, in place of the named set")
    options.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        name, data, seed = given.measure
        print(json.dumps(measure(name, data, int(seed))))
        return
    if given.cifar10:
        os.environ[TABLE] = given.cifar10
    path = RESULTS / "time_to_quality.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["data"] if path.is_file() else {}
    for data in given.data:
        of_data = found.setdefault(data, {"target": TARGETS[data][2], "contenders": {}})
        for seed in given.seeds:
            for name in given.contenders:  # in turn, so that a slow hour hits all
                own = of_data["contenders"].setdefault(name, {})
                if own.get(str(seed), {}).get("status") == "done" and not given.again:
                    continue
                said = {"note": given.note} if given.note else {}
                own[str(seed)] = in_its_own_process(name, data, seed, given.limit) | said
                print(data, seed, name, {k: v for k, v in own[str(seed)].items() if k != "course"}, flush=True)
                write_results("time_to_quality", "python benchmarks/time_to_quality.py", data=found)


if __name__ == "__main__":
    main()
