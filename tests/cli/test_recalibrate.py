"""`coterie recalibrate`: a judged sample sets the confidences right, and what used labels says so."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import coterie.cli.recalibrate as recalibrating


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def judged(coterie, finished, tmp_path) -> tuple[Path, Path]:
    """A run of 96 digits and 60 of its items judged: most confidences are far too high or low for a random answer."""
    run, path = shutil.copytree(finished, tmp_path / "run"), tmp_path / "judged.csv"
    assert coterie("accept", run, "--draw", 60, "-o", path).code == 0
    rows = read(path)
    sure = np.median([float(row["confidence"]) for row in rows])
    for place, row in enumerate(rows):  # the surer half is right but for every tenth, the other half wrong but for that
        row["right"] = str((float(row["confidence"]) >= sure) != (place % 10 == 0)).lower()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return run, path


def test_table_record_and_report_say_that_labels_were_used(coterie, judged, images, tmp_path):
    run, path = judged
    before = (run / "result.parquet").read_bytes(), (run / "run.yaml").read_bytes()
    compared = coterie("compare", run, "--json").object
    answer = coterie("recalibrate", run, "--judged", path, "--json")
    assert answer.code == 0, answer.err
    found = answer.object
    assert found["helps"]
    assert found["labels_used"] == 60
    table, own = pq.read_table(run / "result.recalibrated.parquet"), pq.read_table(run / "result.parquet")
    assert table.schema.metadata[b"coterie.labels_used"] == b"60"
    assert table["label"].equals(own["label"])
    assert not table["confidence"].equals(own["confidence"])
    kept = json.loads((run / "recalibration.json").read_text())
    assert kept["labels_used"]["files"][0]["name"] == "judged.csv"
    assert kept["run"] == "run"
    assert "Labels were used here and in the sentence at the top" in (run / "report.html").read_text()
    # Nothing that needs no labels has seen them.
    assert ((run / "result.parquet").read_bytes(), (run / "run.yaml").read_bytes()) == before
    assert coterie("compare", run, "--json").object == compared

    new = tmp_path / "new.parquet"
    answer = coterie("predict", run, images, "-o", new, "--recalibrated", "--json")
    assert answer.object["labels_used"] == 60
    again = pq.read_table(new)
    assert again.schema.metadata[b"coterie.labels_used"] == b"60"
    assert again["confidence"].to_numpy() == pytest.approx(table["confidence"].to_numpy(), abs=1e-5)
    accepted = coterie("accept", run, "--recalibrated", "--max-error", 0.3, "--json").object
    assert accepted["labels_used"] == 60
    assert coterie("accept", run, "--max-error", 0.3, "--json").object["labels_used"] == 0


def test_the_judgements_of_a_run_count_beside_those_of_its_map(coterie, judged, images, tmp_path):
    """Both have a part in the confidences; the table named those of the map alone."""
    run, path = judged
    record = yaml.safe_load((run / "run.yaml").read_text())
    (run / "run.yaml").write_text(yaml.safe_dump({**record, "labels_used": {"judged": 7, "rows": ""}}))
    answer = coterie("recalibrate", run, "--judged", path, "--json")
    assert answer.object["labels_used"] == 67
    assert "7 judged labels took part in this run" in " ".join(answer.object["notes"])
    for command in (("predict", run, images, "-o", tmp_path / "new.parquet"), ("accept", run, "--max-error", 0.5)):
        assert "the confidences stand on 67 judgements." in coterie(*command, "--recalibrated").out
    for table in (run / "result.recalibrated.parquet", tmp_path / "new.parquet"):
        assert pq.read_schema(table).metadata[b"coterie.labels_used"] == b"67"


def test_confidences_that_judged_items_refuted_are_not_called_unchecked(coterie, judged, images, tmp_path):
    run, path = judged
    assert coterie("recalibrate", run, "--judged", path).code == 0
    gap = json.loads((run / "recalibration.json").read_text())["before"]["gap"]
    off = f"By 60 judged items the mean confidence is {abs(100 * gap):.1f} points too {'high' if gap > 0 else 'low'}."
    accepted = coterie("accept", run, "--max-error", 0.5).out
    assert f"{off} Take the corrected ones: --recalibrated." in accepted
    assert "Nobody has checked" not in accepted
    assert off not in coterie("accept", run, "--max-error", 0.5, "--recalibrated").out
    assert off in coterie("predict", run, images, "-o", tmp_path / "new.parquet").out
    predicted = coterie("predict", run, images, "-o", tmp_path / "new.parquet", "--json").object
    assert predicted["judged_before"] == off
    assert off in (run / "report.html").read_text()


def test_a_map_that_does_not_help_is_not_kept(coterie, judged):
    run, path = judged
    rows = read(path)
    # As many right as the confidences say, evenly spread.
    owed = 0.0
    for row in sorted(rows, key=lambda row: float(row["confidence"])):
        owed += float(row["confidence"])
        row["right"] = str(owed >= 0.5).lower()
        owed -= owed >= 0.5
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    answer = coterie("recalibrate", run, "--judged", path)
    assert answer.code == 0, answer.err
    assert "nothing was written" in answer.out
    assert not (run / "recalibration.json").exists()
    assert coterie("predict", run, "digits", "-o", path.with_name("x.parquet"), "--recalibrated").code == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--map", "spline"), "--map is 'spline'"),
        (("--map", "isotonic"), "isotonic takes at least 500"),
        (("-o", "table.csv"), "must end in .parquet"),
    ],
)
def test_a_wrong_map_or_output_is_refused(coterie, judged, options, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run, path = judged
    answer = coterie("recalibrate", run, "--judged", path, *options)
    assert answer.code == 2
    assert words in answer.err


def test_judged_items_are_not_used_twice(coterie, judged):
    run, path = judged
    answer = coterie("accept", run, "--recalibrated", "--judged", path)
    assert answer.code == 2
    assert "used twice" in answer.err or "leave one out" in answer.err
    assert "recalibrate" in coterie("accept", run, "--recalibrated").err


def test_table_and_map_of_a_run_go_together_wherever_a_copy_is_written(coterie, judged, images, tmp_path):
    run, path = judged
    assert coterie("recalibrate", run, "--judged", path).code == 0
    rows = read(path)
    for place, row in enumerate(rows):  # another person, who finds nearly all of them wrong
        row["right"] = str(place % 10 == 0).lower()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    copy, new = tmp_path / "copy.parquet", tmp_path / "new.parquet"
    assert coterie("recalibrate", run, "--judged", path, "-o", copy).code == 0
    assert copy.read_bytes() == (run / "result.recalibrated.parquet").read_bytes()
    assert coterie("predict", run, images, "-o", new, "--recalibrated").code == 0
    of_run, by_map = pq.read_table(run / "result.recalibrated.parquet"), pq.read_table(new)
    assert by_map["confidence"].to_numpy() == pytest.approx(of_run["confidence"].to_numpy(), abs=1e-5)


def test_no_other_command_writes_in_the_place_of_the_table(coterie, judged, images):
    """A prediction of new items took it, as a table that coterie had written: the corrected confidences were gone."""
    run, path = judged
    assert coterie("recalibrate", run, "--judged", path).code == 0
    table = run / "result.recalibrated.parquet"
    before = table.read_bytes()
    for command in (("predict", run, images), ("accept", run, "--max-error", 0.5)):
        answer = coterie(*command, "-o", table)
        assert answer.code == 2
        assert "is the place of a file of the run" in answer.err
    assert table.read_bytes() == before
    assert coterie("recalibrate", run, "--judged", path, "-o", table).code == 0


def test_killed_between_table_and_map_neither_is_taken_for_the_other_s(coterie, judged, monkeypatch):
    run, path = judged
    assert coterie("recalibrate", run, "--judged", path).code == 0

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recalibrating, "write_atomically", killed)  # what writes the map, after the table
        assert coterie("recalibrate", run, "--judged", path, "--map", "platt").code == 130
    np.save(path.with_name("other.npy"), np.eye(9))  # not even looked at
    for command in (("accept", run), ("predict", run, path.with_name("other.npy"), "-o", path.with_name("x.parquet"))):
        answer = coterie(*command, "--recalibrated")
        assert answer.code == 2
        assert f"coterie recalibrate {run} --judged FILE makes" in answer.err
    assert coterie("recalibrate", run, "--judged", path).code == 0
    assert coterie("accept", run, "--recalibrated").code == 0


def test_export_says_where_the_recalibrated_confidences_are(coterie, judged, tmp_path):
    run, path = judged
    said = (
        "Note: The confidences are the run's own; those that judged items corrected are in result.recalibrated.parquet."
    )
    assert said not in coterie("export", run, "--to", "csv", "-o", tmp_path / "a.csv").out
    assert coterie("recalibrate", run, "--judged", path).code == 0
    assert said in coterie("export", run, "--to", "csv", "-o", tmp_path / "b.csv").out
    assert coterie("export", run, "--to", "csv", "-o", tmp_path / "c.csv", "--json").object["notes"] == [said[6:]]


def test_the_run_may_be_the_working_folder(coterie, judged, monkeypatch):
    run, path = judged
    monkeypatch.chdir(run)
    assert coterie("recalibrate", ".", "--judged", path).code == 0
    assert json.loads((run / "recalibration.json").read_text())["run"] == "run"


def test_a_run_that_may_not_be_written_is_named(coterie, judged, tmp_path, monkeypatch):
    run, path = judged
    monkeypatch.setattr(recalibrating.os, "access", lambda place, mode: mode != os.W_OK or Path(place) != run)
    answer = coterie("recalibrate", run, "--judged", path, "-o", tmp_path / "other.parquet")
    assert answer.code == 2
    assert f"{run} may not be written, and the map is kept there" in answer.err
    assert not (tmp_path / "other.parquet").exists()
