"""Commands about the groups that a run had before it was reviewed say so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coterie.review import Review


@pytest.fixture
def reviewed(grouped, tmp_path) -> Path:
    """A run of 60 vectors of which somebody merged two groups."""
    run = shutil.copytree(grouped, tmp_path / "run")
    with Review(run) as review:
        review.merge(into=0, groups=[1])
    (tmp_path / "l.csv").write_text("id,label\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    (tmp_path / "j.csv").write_text("id,right\n" + "".join(f"{row},true\n" for row in range(60)))
    return run


def commands(run: Path, vectors: Path) -> list[list[object]]:
    beside = run.parent
    return [
        ["predict", run, vectors, "-o", beside / "new.csv"],
        ["predict", run, vectors, "-o", beside / "parts"],
        ["evaluate", run, "--labels", beside / "l.csv"],
        ["recalibrate", run, "--judged", beside / "j.csv"],
        ["accept", run],
    ]


@pytest.mark.parametrize("number", range(5))
def test_they_say_it_once(coterie, reviewed, vectors, grouped, number):
    command = commands(reviewed, vectors)[number]
    answer = coterie(*command)
    assert answer.code == 0, answer.err
    assert answer.out.count("Note: The run was reviewed, and ") == 1
    assert f"its groups before that. The reviewed ones: coterie export {reviewed} --to csv" in answer.out
    shutil.rmtree(reviewed / "review")
    (reviewed / "result.reviewed.parquet").unlink()
    assert "was reviewed" not in coterie(*command).out


def test_where_the_review_was_killed_and_in_json(coterie, reviewed, vectors):
    (reviewed / "result.reviewed.parquet").unlink()
    for command in commands(reviewed, vectors):
        notes = coterie(*command, "--json").object["notes"]
        assert sum("was reviewed" in note for note in notes) == 1, command
