from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coterie.data import labels_of
from coterie.evaluation import evaluate
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.training.plan import RunSettings


def test_bins_of_several_runs_add_up_and_a_single_run_has_the_ece_of_its_evaluation(tmp_path: Path) -> None:
    import reliability

    folders = [tmp_path / str(seed) for seed in (0, 1)]
    for seed, out in enumerate(folders):
        run("digits", RunSettings(10, "finch", seed=seed, backbone="identity", calibrate=False), out)

    def heads(*runs: Path) -> dict[str, Any]:
        reliability.main(["digits", *map(str, runs), "--results", str(tmp_path), "--figures", str(tmp_path)])
        assert (tmp_path / "reliability_digits.png").stat().st_size > 1000
        (record,) = json.loads((tmp_path / "reliability_digits.json").read_text())["records"]
        found: dict[str, Any] = record["heads"]
        return found

    one, both = heads(folders[0]), heads(*folders)
    result = read_result(folders[0] / "result.parquet")
    labels = labels_of("digits", result.ids)
    assert labels is not None
    for name, p in result.heads.items():
        assert one[name]["ece"] == pytest.approx(evaluate(labels.codes, p, class_names=labels.names)["ece"])
        assert sum(bar["count"] for bar in one[name]["bins"]) == len(p)
        assert sum(bar["count"] for bar in both[name]["bins"]) == 2 * len(p)
