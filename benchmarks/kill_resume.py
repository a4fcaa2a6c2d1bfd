"""Kill a run at random moments, resume it each time, and compare its labels with those of a run that was left alone.

    python benchmarks/kill_resume.py [--kills 5]

Once with kill -9 and once with Ctrl-C (SIGINT). The run is `coterie fit digits` with a few epochs of both stages and a
checkpoint after every step, so that the kills fall into all of it: start-up, both stages, writing, prediction.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _measure import write_results

from coterie.prediction.results import read_result

FIT = ["fit", "digits", "-k", "10", "--set", "moco.epochs=12", "--epochs", "12", "--set", "moco.batch_size=128"]


@dataclass
class Attempts:
    """One run folder, and the seconds after which each attempt at it was hit."""

    out: Path
    hit_after: list[float] = field(default_factory=list)


def fit(out: Path, *, resume: bool = False) -> subprocess.Popen[bytes]:
    config = out.parent / "config.yaml"
    config.write_text("checkpoint_seconds: 0\n")
    command = [
        sys.executable,
        "-c",
        "from coterie.cli import main; main()",
        *FIT,
        "-o",
        str(out),
        "--config",
        str(config),
    ]
    extra = ["--resume"] if resume else []
    # Started in the background, this script has SIGINT ignored, and its children would inherit that.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.Popen([*command, *extra], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=heed)


def alone(out: Path) -> float:
    """Seconds of a run that nobody disturbs."""
    begun = time.monotonic()
    process = fit(out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return time.monotonic() - begun


def interrupted(
    folder: Path, kills: int, sign: signal.Signals, length: float, moments: random.Random
) -> list[Attempts]:
    """Hit runs until `kills` hits have landed, then let the last one finish.

    A run that ends before it is hit again is kept, and the next one takes the hits that are left.
    """
    runs: list[Attempts] = []
    while not runs or sum(len(run.hit_after) for run in runs) < kills:
        run = Attempts(folder / f"{sign.name}-{len(runs)}")
        runs.append(run)
        ended = False
        while not ended:
            # Stopped before its folder was made, a run has nothing to resume and begins anew.
            process = fit(run.out, resume=(run.out / "run.yaml").exists())
            left = kills - sum(len(run.hit_after) for run in runs)
            after = moments.uniform(0.2 * length, 0.8 * length) if left else None
            try:
                _, errors = process.communicate(timeout=after)
                assert process.returncode == 0, errors.decode()
                ended = True
            except subprocess.TimeoutExpired:
                process.send_signal(sign)
                process.communicate()
                run.hit_after.append(round(after or 0.0, 2))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    moments = random.Random(given.seed)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        length = alone(Path(folder) / "alone")
        expected = read_result(Path(folder) / "alone" / "result.parquet")
        for sign in (signal.SIGKILL, signal.SIGINT):
            runs = interrupted(Path(folder), given.kills, sign, length, moments)
            found = [read_result(run.out / "result.parquet") for run in runs]
            results[sign.name] = {
                "hit_after_seconds": [run.hit_after for run in runs],
                "same_labels": all(np.array_equal(expected.labels, result.labels) for result in found),
                "same_probabilities": all(
                    np.array_equal(expected.heads[name], result.heads[name])
                    for name in expected.heads
                    for result in found
                ),
            }
            print(sign.name, results[sign.name], flush=True)
    command = f"python benchmarks/kill_resume.py --kills {given.kills}"
    print(
        write_results(
            "kill_resume", command, fit=" ".join(["coterie", *FIT]), seconds_alone=round(length, 1), **results
        )
    )
    if not all(result["same_labels"] for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
