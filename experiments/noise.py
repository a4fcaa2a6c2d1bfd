"""The R-DC paper's noise study (Figure 20, Eq. 16 and 17) on 10,000 images of Fashion-MNIST.

    python experiments/noise.py --seeds 0 --runs runs/noise

Every pixel is z-scored over the images (constant ones stay 0), Gaussian noise of deviation sigma is added once, and
both phases are trained on that: `acai`, then `rdc` with its label-free thresholds. The list of sigmas is lost from the
paper; these are ours. The pixels go in as vectors of floats, without augmentation: as images of 256 levels, those of
the border, which are black in nearly every image, would take most of the levels. Labels are read after each run,
for the numbers only. Finished runs are read and not made again. Writes results/noise.json and docs/figures/noise.png.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _runs import (
    FIGURES,
    command_for_drawn,
    ground,
    label_free,
    of_stage,
    overrides_of,
    parser_for_drawn,
    preset_on,
    saved,
    write_study,
)
from _tables import draw

from coterie.data import Labels
from coterie.evaluation import evaluate
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.training.plan import RunSettings

SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
METRICS = ("acc", "f1", "f1_micro", "nmi", "ari", "ece")


def noisy(images: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """Float32 rows of pixels, one for each image (Eq. 16 and 17)."""
    x = images.astype(np.float64)
    spread = x.std(0)
    scored = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0)
    noise = np.random.default_rng(seed).normal(0.0, sigma, x.shape) if sigma else 0.0
    return np.asarray(scored + noise, dtype=np.float32).reshape(len(x), -1)


def scores(out: Path, labels: Labels) -> dict[str, Any]:
    p = next(iter(read_result(out / "result.parquet").heads.values()))
    found = evaluate(labels.codes, p, class_names=labels.names, resamples=0)
    return {key: found[key] for key in METRICS}


def record_of(
    images: np.ndarray,
    sigma: float,
    seed: int,
    labels: Labels,
    runs: Path,
    base: RunSettings,
    given: dict[str, Any],
    source: str,
) -> dict[str, Any]:
    """Both phases at this sigma, each from where it was left."""
    heads, start, seconds = {}, None, 0.0
    for method in ("acai", "rdc"):
        out = runs / f"{method}-{sigma}-{seed}"
        mine = of_stage(given, method)
        if not ((out / "run.yaml").exists() and label_free(out)["status"] == "done"):
            settings = replace(base, method=method, seed=seed, init=start, overrides=mine)
            settings = replace(settings, preset=preset_on(base.preset, method, source))
            run(noisy(images, sigma, seed), settings, out, resume=(out / "run.yaml").exists())
        heads[method], start = scores(out, labels), str(out)
        seconds += label_free(out)["seconds"]
    return {"sigma": sigma, "seed": seed, "n": len(images), "seconds": round(seconds, 1), "methods": heads}


def figure(records: list[dict[str, Any]]) -> bytes:
    """ACC and macro F1 against sigma, means over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sigmas = sorted({record["sigma"] for record in records})
    shown, axis = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for method, colour in (("acai", "tab:grey"), ("rdc", "tab:blue")):
        for key, line in (("acc", "-"), ("f1", "--")):
            means = [
                100 * statistics.mean(r["methods"][method][key] for r in records if r["sigma"] == sigma)
                for sigma in sigmas
            ]
            axis.plot(sigmas, means, line, color=colour, marker="o", markersize=3, label=f"{method}, {key}")
    axis.set_xlabel("sigma of the noise, where a pixel's deviation is 1")
    axis.set_ylabel("%")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)
    return saved(shown)


def main(words: list[str] | None = None) -> None:
    options = parser_for_drawn(__doc__, Path("runs/noise"))
    options.add_argument("--sigmas", type=float, nargs="+", default=list(SIGMAS))
    options.add_argument("--figures", type=Path, default=FIGURES)
    given = options.parse_args(words)
    overrides = overrides_of(given.set, ("acai", "rdc"))
    _, file, labels, _ = draw(given.source, given.items, given.runs)
    images = np.load(file)
    records: list[dict[str, Any]] = []
    for seed in given.seeds:
        for sigma in given.sigmas:
            records.append(record_of(images, sigma, seed, labels, given.runs, ground(given), overrides, given.source))
            print(records[-1], flush=True)
    write_study("noise", given, command_for_drawn("noise", given, "sigmas"), records, figure(records))


if __name__ == "__main__":
    main()
