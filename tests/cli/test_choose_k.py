"""`coterie choose-k`: a table, an object, a run's report."""

from __future__ import annotations

import re
import shutil

import pytest

from coterie.cli.choose_k import print_choice
from coterie.evaluation.group_rule import Choice, Row
from coterie.records import read_record


def test_the_number_of_clear_groups_of_embeddings_is_found(coterie, vectors):
    answer = coterie("choose-k", vectors, "--most", 6)
    assert answer.code == 0, answer.err
    assert "Number of groups: 3 (no other does as well)." in answer.out
    assert "looked at 2 groups" in answer.err
    answer = coterie("choose-k", vectors, "--most", 6, "--json", "-q")
    assert answer.err == ""
    assert (answer.object["k"], answer.object["clear"], answer.object["plateau"]) == (3, True, [3, 3])
    assert {row["k"] for row in answer.object["curve"]} >= {2, 3, 4, 5, 6}


def test_of_a_run_also_in_its_report(coterie, grouped, tmp_path):
    run = shutil.copytree(grouped, tmp_path / "run")
    answer = coterie("choose-k", run, "--most", 6, "--json")
    assert answer.code == 0, answer.err
    page = (run / "report.html").read_text()
    assert "How many groups" in page
    assert answer.object["sentence"] in page
    (run / "choose_k.json").write_text('{"k": "three"}')
    assert coterie("report", run).code == 2


def test_auto_in_the_record_and_the_report(coterie, vectors, tmp_path):
    run = tmp_path / "run"
    answer = coterie("fit", vectors, "-k", "auto", "--method", "ae", "--epochs", 0, "--no-calibrate", "-o", run)
    assert answer.code == 0, answer.err
    assert "Number of groups: 3" in answer.out
    assert read_record(run)["chosen_k"]["k"] == 3
    assert "How many groups" in (run / "report.html").read_text()
    again = coterie(
        "fit", vectors, "-k", "auto", "--method", "ae", "--epochs", 0, "--no-calibrate", "-o", run, "--resume", "--json"
    )
    assert again.object["k"] == 3


def test_more_groups_than_the_items_can_have_are_not_looked_for(coterie, vectors):
    answer = coterie("choose-k", vectors, "--most", 40)
    assert answer.code == 2
    assert "cannot be looked for between 2 and 40" in answer.err


@pytest.mark.parametrize(("clear", "marks"), [(True, ["2", "3+", "4*", "5+", "6"]), (False, ["2", "3", "4", "5", "6"])])
def test_the_curve_says_its_numbers_and_marks_what_stands_out(capsys, clear, marks):
    curve = [Row(k, 0.91, 0.82, 0.73, 0.04, 0.05, k, 0.01, 0.37, 0.28, 1.9) for k in range(2, 7)]
    print_choice(Choice(4, clear, (3, 5), curve, {"gap": 4, "stability": 3}, [2, 9], 1234, "the answer.", ["a note"]))
    head, *rows = capsys.readouterr().out.splitlines()
    names = re.split(" {2,}", head)
    assert [row.split()[0] for row in rows[:5]] == marks
    first = dict(zip(names, rows[0].split(), strict=True))
    assert first == {
        "groups": "2",
        "holds": "0.91",
        "stable": "0.82",
        "above chance": "0.73",
        "±": "0.04",
        "ambiguous ↓": "0.05",
        "gap": "2.00",
        "silhouette": "0.37",
        "kappa": "0.28",
        "coding ↓": "1.90",
    }
    assert rows[5:] == [
        "Each alone: gap 4, stability 3.",
        "Levels of FINCH's hierarchy: 2, 9 groups.",
        "Note: a note",
        "Number of groups: the answer." if clear else "the answer.",
        "Looked at 1,234 items.",
    ]
