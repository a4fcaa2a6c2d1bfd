"""Runs in which a person's judgements took part stand in no table of label-free numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from coterie.types import InputError
from helpers.review_runs import probabilities_of, write_run

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_an_experiment_refuses_a_judged_run(tmp_path: Path) -> None:
    import _runs

    run = write_run(tmp_path / "run", probabilities_of(20, 2), kind="embeddings")
    assert _runs.label_free(run)["status"] == "done"
    record = yaml.safe_load((run / "run.yaml").read_text()) | {"labels_used": {"judged": 3}}
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    with pytest.raises(InputError, match=r"Judged labels took part in .*run"):
        _runs.study_finished("ensemble", "", lambda source, runs: {}, ["digits", "--runs", str(run)])


def test_a_record_of_a_judged_run_makes_no_table(tmp_path: Path) -> None:
    import _docs

    (tmp_path / "a.json").write_text(json.dumps({"records": [{"acc": 1, "record": {"labels_used": None}}]}))
    assert _docs.records("a", tmp_path)["records"][0]["acc"] == 1
    (tmp_path / "b.json").write_text(json.dumps({"records": [{"acc": 1, "record": {"labels_used": {"judged": 3}}}]}))
    with pytest.raises(InputError, match=r"Judged labels took part in a run of b\.json"):
        _docs.records("b", tmp_path)


def test_every_reader_of_finished_runs_goes_through_the_one_that_refuses() -> None:
    for path in EXPERIMENTS.glob("*.py"):
        if path.name != "_runs.py":
            assert "read_record" not in path.read_text(encoding="utf-8"), path.name
