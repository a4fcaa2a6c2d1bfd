"""What 150 judged items make of a run's confidences: before and after on all others, over 50 draws.

    python experiments/recalibration.py digits --runs runs/digits-0 runs/digits-1

For each run: 50 uniform random samples of 150 items, as `coterie accept --draw` draws them, "judged" by the true labels
(right: the item's class is the one that the Hungarian matching over all items gives to its group). Each sample gives
the maps `temperature`, `platt` and `beta` of `coterie recalibrate`; where the product would ship none (`helps`), the
confidences stay. On the other items: ECE (15 bins) before and after, the share that may be accepted at an expected
error of 5 and 10 %, the error that this share really has, and in how many draws that is more; `kept`: the means of the
draws in which the product keeps the map. Nothing is trained; labels are used, by design. Writes
experiments/results/recalibration_NAME.json, one record for each run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _runs import finished_record, label_free, study_finished
from numpy.typing import NDArray

from coterie.data import labels_of
from coterie.evaluation import accept, calibration_error, match
from coterie.evaluation.recalibration import cross_fitted, fit, log_loss
from coterie.prediction.results import read_result

MAPS, ERRORS, DRAWS, JUDGED = ("temperature", "platt", "beta"), (0.05, 0.1), 50, 150

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def numbers(confidence: Floats, right: Flags) -> dict[str, float]:
    """ECE, and what may be accepted at each expected error with the error it has."""
    found = {"ece": calibration_error(confidence, right), "gap": float(confidence.mean() - right.mean())}
    for error in ERRORS:
        taken = accept.accepted_items(confidence, accept.expected_threshold(confidence, error))
        found[f"accepted_{error:g}"] = float(taken.mean())
        wrong = float((~right[taken]).mean()) if taken.any() else 0.0
        found |= {f"error_{error:g}": wrong, f"exceeded_{error:g}": float(wrong > error)}
    return found


def draw(confidence: Floats, right: Flags, seed: int) -> dict[str, dict[str, Any]]:
    """One judged sample: the numbers of the other items before and after each map."""
    rows = accept.draw_sample(len(right), JUDGED, seed)
    rest = np.setdiff1d(np.arange(len(right)), rows)
    judged, answers = confidence[rows], right[rows]
    found: dict[str, dict[str, Any]] = {"before": numbers(confidence[rest], right[rest])}
    for name in MAPS:
        gains = log_loss(judged, answers) - log_loss(cross_fitted(name, judged, answers), answers)  # type: ignore[arg-type]
        helps = bool(gains.mean() > gains.std(ddof=1) / np.sqrt(JUDGED))
        after = fit(name, judged, answers)(confidence[rest])  # type: ignore[arg-type]
        found[name] = {"helps": helps, **numbers(after if helps else confidence[rest], right[rest])}
    return found


def run_record(source: str, run: Path) -> dict[str, Any]:
    """All draws of one run: the mean, the standard deviation over draws and the largest of each number."""
    begun, record, table = time.monotonic(), label_free(run), read_result(run / "result.parquet")
    labels = labels_of(source, table.ids)
    assert labels is not None, f"{source} carries no labels"
    codes, predicted = labels.codes, table.labels.astype(np.int64)
    right = match(codes, predicted, record["n_clusters"], len(labels.names)).correct(codes, predicted)
    confidence = table.confidence.astype(np.float64)
    draws = [draw(confidence, right, seed) for seed in range(DRAWS)]
    rows = []
    for name in ("before", *MAPS):
        row: dict[str, Any] = {"confidences": name}
        kept = [one[name] for one in draws if one[name].get("helps", True)]
        row["kept"] = {key: float(np.mean([one[key] for one in kept])) for key in kept[0]} if kept else {}
        for key in draws[0][name]:
            values = [float(one[name][key]) for one in draws]
            row[key] = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "most": max(values)}
        rows.append(row)
        print(run.name, name, {key: round(row[key]["mean"], 4) for key in draws[0][name]})
    return finished_record(
        record,
        len(codes),
        time.monotonic() - begun,
        metrics={"acc": float(right.mean()), "confidence": float(confidence.mean())},
        judged=JUDGED,
        draws=DRAWS,
        rows=rows,
    )


def main() -> None:
    study_finished(
        "recalibration", __doc__, lambda source, runs: {"records": [run_record(source, run) for run in runs]}
    )


if __name__ == "__main__":
    main()
