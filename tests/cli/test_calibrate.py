"""`coterie fit --calibrate`."""

from __future__ import annotations

import json


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
