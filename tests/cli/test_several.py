"""`coterie fit --runs`: several seeds, one table, and which to trust."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from coterie import Clusterer, load
from coterie.prediction.results import read_result
from coterie.types import InputError

QUICK = ("--method", "ae", "--epochs", 1, "--no-calibrate", "-q")


def test_several_seeds_are_matched(coterie, vectors, tmp_path):
    out = tmp_path / "out"
    answer = coterie("fit", vectors, "-k", 3, "--runs", 3, "-o", out, *QUICK)
    assert answer.code == 0, answer.err
    assert "The answer:" in answer.out
    found = json.loads((out / "ensemble.json").read_text())
    assert found["runs"] == ["seed-0", "seed-1", "seed-2"]
    assert found["trust"]["bound"] <= 1
    assert "Which to trust" in (out / "compare.html").read_text()
    table, own = read_result(out / "ensemble.parquet"), read_result(out / found["medoid"] / "result.parquet")
    assert (table.labels == own.labels).all()
    runs = [read_result(out / name / "result.parquet") for name in found["runs"]]
    # Every group is clear here, so the confidence is the mean of the runs'.
    if all((np.bincount(run.labels) == np.bincount(runs[0].labels)).all() for run in runs):
        assert table.confidence.mean() <= max(run.confidence.mean() for run in runs) + 1e-3
    assert pq.read_table(out / "ensemble.parquet").column_names[:3] == ["id", "label", "confidence"]
    again = coterie("fit", vectors, "-k", 3, "--runs", 3, "-o", out, *QUICK)
    assert again.code == 2
    assert "already holds runs" in again.err
    resumed = coterie("fit", vectors, "-k", 3, "--runs", 3, "-o", out, "--resume", "--json", *QUICK)
    assert resumed.object["medoid"] == found["medoid"]


def test_what_cannot_be(coterie, vectors, tmp_path):
    assert "The number of runs is 0" in coterie("fit", vectors, "-k", 3, "--runs", 0, "-o", tmp_path / "x").err
    assert "give it with -o" in coterie("fit", vectors, "-k", 3, "--runs", 2).err
    (tmp_path / "mine.txt").write_text("mine")
    answer = coterie("fit", vectors, "-k", 3, "--runs", 2, "-o", tmp_path)
    assert answer.code == 2
    assert "holds other files" in answer.err


def test_the_same_as_on_the_command_line(coterie, vectors, tmp_path):
    asked = ("-k", 3, "--seed", 1, "--runs", 2, *QUICK)
    answer = coterie("fit", vectors, "-o", tmp_path / "cli", "--json", *asked)
    assert answer.object["runs"] == ["seed-1", "seed-2"]  # one object for all, and nothing beside it
    same = {"method": "ae", "epochs": 1, "calibrate": False}
    model = Clusterer(3, random_state=1, runs=2, output=tmp_path / "python", **same).fit(vectors)
    said, own = (json.loads((tmp_path / name / "ensemble.json").read_text()) for name in ("cli", "python"))
    assert said == own == json.loads(json.dumps(model.runs_))
    tables = [read_result(tmp_path / name / "ensemble.parquet") for name in ("cli", "python")]
    np.testing.assert_array_equal(tables[0].confidence, tables[1].confidence)
    np.testing.assert_array_equal(tables[1].labels, model.labels_)
    kept = load(tmp_path / "python" / own["medoid"])
    np.testing.assert_array_equal(kept.predict(np.load(vectors)), model.labels_)
    with pytest.raises(InputError, match="already holds runs"):
        Clusterer(3, random_state=1, runs=2, output=tmp_path / "python", **same).fit(vectors)
