"""`coterie fit --calibrate`."""

from __future__ import annotations

import csv
import json
import shutil

import pyarrow.parquet as pq

from coterie.records import read_record
from coterie.review import Review


def test_fit_reports_the_calibration_error_before_and_after(coterie, images, quick, tmp_path):
    run = tmp_path / "run"
    options = ("--calibrate", "--set", "calibrate.epochs=3", "--method", "moco")
    quick = quick[: quick.index("--set")]
    moco = ("--set", "moco.epochs=1", "--set", "moco.batch_size=24", "--set", "moco.queue=48")
    answer = coterie("fit", images, "-k", 10, "-o", run, *quick, *moco, *options, "--json")
    assert answer.code == 0, answer.err
    assert list(answer.object["heads"]) == ["cal", "kmeans"]
    assert answer.object["metrics"] == answer.object["heads"]["cal"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["heads"]["cal"]["ece"] == answer.object["metrics"]["ece"]
    assert coterie("evaluate", run).code == 0
    assert coterie("predict", run, images, "-o", tmp_path / "new.parquet").code == 0


def test_a_dry_run_shows_the_settings_of_the_calibration(coterie, vectors):
    answer = coterie("fit", vectors, "-k", 3, "--calibrate", "--set", "calibrate.cells=9", "--dry-run", "--json")
    assert answer.object["calibration"]["cells"] == 9
    assert coterie("fit", vectors, "-k", 3, "--dry-run", "--json").object["calibration"] is None


def test_a_wrong_setting_of_the_calibration_is_named(coterie, vectors):
    answer = coterie("fit", vectors, "-k", 3, "--calibrate", "--set", "calibrate.cels=9", "--dry-run")
    assert answer.code == 2
    assert "did you mean calibrate.cells" in answer.err
    answer = coterie("fit", vectors, "-k", 3, "--set", "calibrate.cells=9", "--dry-run")
    assert answer.code == 2
    assert "add --calibrate" in answer.err


def test_confidences_are_calibrated_unless_asked_not_to_and_the_difference_is_said(coterie, vectors, tmp_path):
    fit = ("fit", vectors, "-k", 3, "--method", "finch", "--set", "calibrate.epochs=2", "-o")
    answer = coterie(*fit, tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "not calibrated" not in answer.out
    assert coterie("accept", tmp_path / "run").code == 0
    plain = coterie("fit", vectors, "-k", 3, "--method", "finch", "--no-calibrate", "-o", tmp_path / "raw")
    assert "(not calibrated)" in plain.out
    assert coterie("accept", tmp_path / "raw").code == 2
    new = coterie("predict", tmp_path / "raw", vectors, "-o", tmp_path / "new.parquet")
    assert "(not calibrated)" in new.out
    again = coterie("fit", vectors, "-k", 3, "--method", "finch", "-o", tmp_path / "raw", "--resume", "--calibrate")
    assert again.code == 0, again.err
    assert coterie("accept", tmp_path / "raw").code == 0


def test_a_setting_of_a_calibration_that_is_left_out_is_refused(coterie, vectors):
    wrong = ("--no-calibrate", "--set", "calibrate.cells=9", "--dry-run")
    answer = coterie("fit", vectors, "-k", 3, "--method", "finch", *wrong)
    assert answer.code == 2
    assert "nothing is to be calibrated" in answer.err


def test_what_was_measured_of_the_confidences_before_is_removed(coterie, vectors, tmp_path):
    run, judged, labels = tmp_path / "run", tmp_path / "judged.csv", tmp_path / "labels.csv"
    fit = ("fit", vectors, "-k", 3, "--method", "kmeans", "--set", "calibrate.epochs=2", "-o", run)
    labels.write_text("id,label\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    assert coterie(*fit[:6], "--no-calibrate", "-o", run, "--labels", labels).code == 0
    assert coterie("evaluate", run, "--ood", vectors).code == 0
    assert coterie("accept", run, "--draw", 60, "-o", judged).code == 0
    rows = list(csv.DictReader(judged.read_text().splitlines()))
    judged.write_text("id,right\n" + "".join(f"{row['id']},{place % 2}\n" for place, row in enumerate(rows)))
    assert coterie("recalibrate", run, "--judged", judged).code == 0
    measured = ("metrics.json", "ood.json", "recalibration.json", "result.recalibrated.parquet")
    assert all((run / name).is_file() for name in measured)
    # Nothing changes, so nothing goes.
    assert coterie(*fit[:6], "--no-calibrate", "-o", run, "--resume").code == 0
    assert all((run / name).is_file() for name in measured)

    answer = coterie(*fit, "--resume")
    assert answer.code == 0, answer.err
    assert all(name in answer.err for name in measured)
    assert not any((run / name).exists() for name in measured)
    (row,) = coterie("compare", run, "--json").object["runs"]
    assert row["metrics"]["ece"] is None
    assert coterie("accept", run, "--recalibrated").code == 2
    assert "Measured against" not in (run / "report.html").read_text()


def test_a_reviewed_run_that_is_resumed_keeps_its_review(coterie, vectors, tmp_path):
    """The table of another version or machine has other bytes, by which its review knows it."""
    run = tmp_path / "run"
    fit = ("fit", vectors, "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", run)
    assert coterie(*fit).code == 0
    table = run / "result.parquet"
    pq.write_table(pq.read_table(table), table, compression="gzip")
    with Review(run) as review:
        review.rename(0, "first")
    answer = coterie(*fit, "--resume")
    assert answer.code == 0
    assert "the result was reviewed: result.parquet stays as it is" in answer.err
    with Review(run) as review:
        assert review.state.groups[0].name == "first"


def test_a_reviewed_run_is_not_calibrated_under_its_review(coterie, vectors, tmp_path):
    run, copy = tmp_path / "run", tmp_path / "copy"
    fit = ("fit", vectors, "-k", 3, "--method", "kmeans", "--set", "calibrate.epochs=2", "--resume", "-o")
    assert coterie(*fit[:6], "--no-calibrate", "-o", run).code == 0
    with Review(run) as review:
        review.rename(0, "first")
    answer = coterie(*fit, run)
    assert answer.code == 2
    assert "was reviewed" in answer.err
    with Review(run) as review:
        assert review.rename(1, "second")
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("review", "result.reviewed.parquet"))
    assert coterie(*fit, copy).code == 0


def test_a_run_does_not_go_on_under_an_open_review(coterie, vectors, tmp_path):
    """Before, its table was replaced: what was decided after that could not be opened again."""
    run = tmp_path / "run"
    fit = ("fit", vectors, "-k", 3, "--method", "kmeans", "--resume", "-o", run)
    assert coterie(*fit, "--no-calibrate").code == 0
    with Review(run) as review:
        answer = coterie(*fit, "--set", "calibrate.epochs=2")
        assert (answer.code, answer.err.count("is being reviewed: stop `coterie review`")) == (2, 1), answer.err
        review.rename(0, "first")
    with Review(run) as review:
        assert review.state.groups[0].name == "first"


def test_a_calibration_that_was_given_up_is_not_gone_on_from(coterie, vectors, tmp_path):
    """Its checkpoint stayed, and another one began with it, whatever had taught it."""
    run, again = tmp_path / "run", ("fit", vectors, "-k", 3, "--method", "kmeans")
    assert coterie(*again, "--set", "calibrate.epochs=2", "-o", run).code == 0
    assert coterie(*again, "--no-calibrate", "--resume", "-o", run).code == 0
    assert (run / "history.jsonl").read_text() == ""
    three = ("--set", "calibrate.epochs=3")
    assert coterie(*again, *three, "--resume", "-o", run).code == 0
    assert coterie(*again, *three, "-o", tmp_path / "plain").code == 0
    tables = [pq.read_table(folder / "result.parquet") for folder in (run, tmp_path / "plain")]
    assert tables[0].equals(tables[1])


def test_a_run_that_is_resumed_keeps_what_was_wrong_with_its_training(coterie, vectors, tmp_path):
    """A stage that is done is not trained again, so nobody would find its warning a second time."""
    run, wild = tmp_path / "run", ("--set", "calibrate.epochs=1", "--set", "calibrate.entropy_weight=1e9")
    fit = ("fit", vectors, "-k", 3, "--method", "turtle", "--set", "turtle.epochs=1", "--set", "turtle.inner_rate=1e30")
    assert coterie(*fit, "--no-calibrate", "-o", run).code == 0
    first = read_record(run)["warnings"]
    assert "of stage turtle is" in first[0]
    assert coterie(*fit, *wild, "-o", run, "--resume").code == 0
    both = read_record(run)["warnings"]
    assert len(set(both)) == len(both)
    assert set(first) < set(both)
    assert [text for text in both if "of stage calibrate is" in text] == list({*both} - {*first})
    assert coterie(*fit, "--no-calibrate", "-o", run, "--resume").code == 0
    assert read_record(run)["warnings"] == first
