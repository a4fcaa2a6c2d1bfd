"""Commands about the groups that a run had before it was reviewed say so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coterie import load
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
        ["accept", run, "--draw", 59, "-o", beside / "draw.csv"],
        ["duplicates", run],
        ["compare", run, "-o", beside / "page.html"],
    ]


@pytest.mark.parametrize("number", range(8))
def test_they_say_it_once(coterie, reviewed, vectors, number):
    command = commands(reviewed, vectors)[number]
    shown = "RUN" if command[0] == "compare" else reviewed
    answer = coterie(*command)
    assert answer.code == 0, answer.err
    assert answer.out.count("un was reviewed, and ") == 1
    assert f"its groups before that. The reviewed ones: coterie export {shown} --to csv" in answer.out
    shutil.rmtree(reviewed / "review")
    (reviewed / "result.reviewed.parquet").unlink()
    assert "was reviewed" not in coterie(*command).out


def test_where_the_review_was_killed_and_in_json(coterie, reviewed, vectors):
    (reviewed / "result.reviewed.parquet").unlink()
    for command in commands(reviewed, vectors):
        notes = coterie(*command, "--json").object["notes"]
        assert sum("was reviewed" in note for note in notes) == 1, command


def test_the_command_that_it_names_can_be_typed(coterie, reviewed):
    moved = reviewed.rename(reviewed.parent / "my run")
    assert f"coterie export '{moved}' --to csv" in coterie("accept", moved).out


def test_in_python_it_is_a_warning(reviewed, grouped, recwarn):
    load(grouped)
    assert not recwarn
    with pytest.warns(
        UserWarning, match=r"was reviewed, and what is loaded has its groups before that.*coterie export"
    ):
        load(reviewed)


def test_compare_names_those_among_its_runs(coterie, reviewed, grouped):
    again = shutil.copytree(reviewed, reviewed.parent / "again")
    other, page = shutil.copytree(grouped, reviewed.parent / "other"), reviewed.parent / "page.html"
    said = coterie("compare", reviewed, other, again, "-o", page).out
    assert "Note: run, again were reviewed, and these numbers are about their groups before that." in said
    assert "run, again were reviewed" in page.read_text()


def test_an_export_of_the_original_knows_of_a_review_whose_table_is_not_there(coterie, reviewed):
    (reviewed / "result.reviewed.parquet").unlink()
    answer = coterie("export", reviewed, "--to", "csv", "-o", reviewed.parent / "o.csv", "--original")
    assert "the run has a review, which --original leaves out" in answer.out
