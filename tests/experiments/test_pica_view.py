"""PICA's two evaluation views on the same run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coterie.measuring import evaluate_run
from coterie.pipeline import run
from coterie.training.plan import RunSettings


def test_a_run_is_judged_both_ways(tmp_path: Path) -> None:
    import pica_view

    from coterie.data import labels_of
    from coterie.prediction.results import read_result

    out = tmp_path / "digits-pica-0"
    settings = {"backbone": "small-4", "overrides": {"pica.epochs": 1}, "calibrate": False}
    run("digits", RunSettings(10, "pica", family="photo", **settings), out)
    pica_view.main(["digits", str(out), "--results", str(tmp_path / "results")])
    text = (tmp_path / "results" / "pica_view_digits.json").read_text()
    assert str(tmp_path) not in text
    (row,) = json.loads(text)["records"]
    labels = labels_of("digits", read_result(out / "result.parquet").ids)
    assert labels is not None
    told = evaluate_run(out, labels)["heads"]["primary"]
    assert row["centre"]["acc"] == pytest.approx(told["acc"], abs=2e-3)
    assert row["whole"] != row["centre"]
