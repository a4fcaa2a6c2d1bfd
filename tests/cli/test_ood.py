"""Out-of-distribution scores on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from coterie.prediction.ood import SCORES
from coterie.prediction.results import read_result

NUMBERS = {"auroc", "fpr95", "fpr95_out_positive", "aupr_in", "aupr_out"}


@pytest.fixture
def run(grouped: Path, tmp_path: Path) -> Path:
    """A copy of a finished run over embeddings."""
    return Path(shutil.copytree(grouped, tmp_path / "run"))


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Embeddings that belong to no group."""
    path = tmp_path / "foreign.npy"
    np.save(path, (100 * np.random.default_rng(3).normal(size=(40, 8))).astype(np.float32))
    return path


def test_predict_writes_the_score_and_says_how_many_look_foreign(coterie, run, foreign, vectors, tmp_path):
    out = tmp_path / "new.parquet"
    answer = coterie("predict", run, foreign, "-o", out, "--json")
    assert answer.code == 0, answer.err
    table = pq.read_table(out)
    assert table.column_names == ["id", "label", "confidence", "probabilities", "probabilities_clu", "ood_score"]
    assert table.schema.metadata[b"coterie.ood_score"] == b"knn"
    scores = read_result(out).ood_score
    found = answer.object["ood_score"]
    assert found["score"] == "knn"
    assert found["below"] == (scores < found["threshold"]).sum()
    said = coterie("predict", run, vectors, "-o", out)
    assert "below" in said.out
    own = read_result(out).ood_score
    assert (own < found["threshold"]).mean() == pytest.approx(0.05, abs=0.02)  # of the fitted items, 5 % by definition
    assert np.isfinite(own).all()


def test_predict_writes_a_short_csv_and_replaces_none(coterie, run, vectors, tmp_path):
    out, whole = tmp_path / "new.csv", tmp_path / "new.parquet"
    said = coterie("predict", run, vectors, "-o", out).out
    assert "a .csv table has no probabilities" in said
    assert coterie("predict", run, vectors, "-o", whole, "-q").code == 0
    lines, table = out.read_text().splitlines(), read_result(whole)
    assert lines[0] == "id,label,confidence,ood_score"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[0] for row in rows] == list(table.ids)
    assert [int(row[1]) for row in rows] == table.labels.tolist()
    assert np.array_equal(np.float32([row[2] for row in rows]), table.confidence)
    for more, says in ((), "is there already: give another name"), (("--embedding",), "--embedding writes no .csv"):
        place = out if not more else tmp_path / "other.csv"
        answer = coterie("predict", run, vectors, "-o", place, *more)
        assert answer.code == 2
        assert says in answer.err


def test_no_item_looks_foreign_is_said_without_advice(coterie, run, vectors, tmp_path):
    table, out = tmp_path / "usual.npy", tmp_path / "new.parquet"
    assert coterie("predict", run, vectors, "-o", out).code == 0
    np.save(table, np.load(vectors)[read_result(out).ood_score.argsort()[-5:]])
    said = coterie("predict", run, table, "-o", out).out
    assert "None of them has an ood_score (knn) below" in said
    assert "look at" not in said


@pytest.mark.parametrize("score", SCORES)
def test_every_score_can_be_asked_for(coterie, run, vectors, tmp_path, score):
    answer = coterie("predict", run, vectors, "-o", tmp_path / "new.parquet", "--ood-score", score, "--json")
    assert answer.code == 0, answer.err
    assert answer.object["ood_score"]["score"] == score
    if score == "msp":
        table = read_result(tmp_path / "new.parquet")
        assert np.array_equal(table.ood_score, table.confidence)


def test_the_score_can_be_left_out_and_is_left_out_where_the_run_keeps_no_items(coterie, run, vectors, tmp_path):
    out = tmp_path / "new.parquet"
    assert coterie("predict", run, vectors, "-o", out, "--ood-score", "none", "--json").object["ood_score"] is None
    assert "ood_score" not in pq.read_table(out).column_names
    (run / "model" / "ood.safetensors").unlink()
    answer = coterie("predict", run, vectors, "-o", out)
    assert answer.code == 0
    assert "no ood_score" in answer.out
    assert "ood_score" not in pq.read_table(out).column_names


def test_evaluate_against_a_second_source(coterie, run, foreign):
    answer = coterie("evaluate", run, "--ood", foreign, "--json")
    assert answer.code == 0, answer.err
    found = answer.object["ood"]
    assert "metrics" not in answer.object
    assert (found["n_inside"], found["n_outside"], found["skipped"]) == (60, 40, 0)
    assert set(found["scores"]) == set(SCORES)
    assert all(set(numbers) == NUMBERS for numbers in found["scores"].values())
    assert found["scores"]["mahalanobis"]["auroc"] > 0.95
    assert json.loads((run / "ood.json").read_text()) == {str(foreign): found}


def test_evaluate_keeps_other_sources_and_takes_labels_too(coterie, run, foreign, vectors, tmp_path):
    coterie("evaluate", run, "--ood", foreign)
    labels = tmp_path / "labels.npy"
    np.save(labels, np.arange(60) % 3)
    said = coterie("evaluate", run, "--ood", vectors, "--ood-score", "msp", "--labels", labels)
    assert said.code == 0, said.err
    assert "60 fitted items against 60" in said.out
    assert "metrics.json" in said.out
    kept = json.loads((run / "ood.json").read_text())
    assert set(kept) == {str(foreign), str(vectors)}
    assert kept[str(vectors)]["scores"]["msp"]["auroc"] == pytest.approx(0.5, abs=1e-3)  # the same items twice


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--ood", "vectors", "--ood-score", "enrgy"), "did you mean energy"),
        (("--ood-score", "energy"), "--ood"),
        (("--device", "cpu"), "--device is for the scores of --ood"),
        (("--ood", "nowhere.npy"), "nowhere.npy"),
    ],
)
def test_bad_input_is_one_sentence(coterie, run, vectors, arguments, word):
    given = [str(vectors) if text == "vectors" else text for text in arguments]
    answer = coterie("evaluate", run, *given)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert word in answer.err
    assert not (run / "ood.json").exists()


def test_a_run_that_keeps_no_items_cannot_be_compared(coterie, run, foreign):
    (run / "model" / "ood.safetensors").unlink()
    answer = coterie("evaluate", run, "--ood", foreign)
    assert answer.code == 2
    assert "without a sample" in answer.err


@pytest.mark.parametrize("out", ["new.parquet", "parts"])
def test_predict_refuses_a_score_that_does_not_exist_before_it_reads_the_items(coterie, run, tmp_path, out):
    np.save(tmp_path / "other.npy", np.eye(9))  # which the run does not take
    answer = coterie("predict", run, tmp_path / "other.npy", "-o", tmp_path / out, "--ood-score", "mahalonobis")
    assert answer.code == 2
    assert "did you mean mahalanobis" in answer.err
    assert not (tmp_path / out).exists()
