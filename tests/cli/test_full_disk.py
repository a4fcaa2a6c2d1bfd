"""A run on a disk that has no room left: what is found out about it is printed, and the message names the file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.disks import fill, small_disk


@pytest.fixture
def full_run(grouped, tmp_path: Path) -> Iterator[Path]:
    """A run of 60 vectors on a full disk."""
    with small_disk(tmp_path / "full", "4m") as place:
        run = shutil.copytree(grouped, place / "run")
        (run / "report.html").unlink(missing_ok=True)
        fill(place)
        yield run


def labels_of(run: Path) -> Path:
    path = run.parent.parent / "l.csv"
    path.write_text("id,label\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    return path


def test_evaluate_prints_its_numbers(coterie, full_run, vectors):
    answer = coterie("evaluate", full_run, "--labels", labels_of(full_run), "--ood", vectors)
    assert answer.code == 0, answer.err
    assert "acc" in answer.out
    assert "60 fitted items against 60" in answer.out
    assert "All numbers" not in answer.out
    assert f"{full_run}/metrics.json could not be written (No space left on device)" in answer.err
    assert answer.err.count("The numbers are printed all the same.") == 1
    assert not (full_run / "ood.json").exists()
    answer = coterie("evaluate", full_run, "--labels", labels_of(full_run), "--json")
    assert answer.object["metrics"]["n"] == 60


@pytest.mark.parametrize(("command", "words"), [("duplicates", "near-duplicate"), ("choose-k", "groups")])
def test_what_was_found_is_printed(coterie, full_run, command, words):
    answer = coterie(command, full_run)
    assert answer.code == 0, answer.err
    assert words in answer.out
    assert "Report:" not in answer.out
    assert ".json could not be written (No space left on device)" in answer.err
    assert ".part" not in answer.err
    assert f"fit {full_run}" not in answer.out + answer.err, "fit takes no run as its source"


def test_duplicates_without_room_for_their_table_say_so_alone(coterie, full_run):
    answer = coterie("duplicates", full_run, "-o", full_run / "d.csv")
    assert answer.code == 2
    assert f"{full_run}/d.csv could not be written (No space left on device)" in answer.err
    assert "printed all the same" not in answer.err
    assert not answer.out


def test_a_review_cannot_begin(coterie, full_run):
    answer = coterie("review", full_run, "--no-browser", "--port", 0)
    assert answer.code == 2
    assert "review/log.jsonl could not be written (No space left on device): free some space" in answer.err
    assert "decision" not in answer.err, "there was none yet"


def test_recalibrate_names_the_table(coterie, full_run, tmp_path):
    judged = tmp_path / "judged.csv"
    judged.write_text("id,right\n" + "".join(f"{row},{str(row % 2 == 0).lower()}\n" for row in range(0, 60, 1)))
    answer = coterie("recalibrate", full_run, "--judged", judged)
    assert answer.code == 2
    assert f"{full_run}/result.recalibrated.parquet could not be written (No space left on device)" in answer.err
    assert ".part" not in answer.err
    assert not list(full_run.glob("*recalibrat*"))
