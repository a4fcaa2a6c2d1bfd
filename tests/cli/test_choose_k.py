"""`coterie choose-k`: a table, an object, a run's report."""

from __future__ import annotations

import shutil

from coterie.records import read_record


def test_of_embeddings(coterie, vectors):
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


def test_too_many_groups(coterie, vectors):
    answer = coterie("choose-k", vectors, "--most", 40)
    assert answer.code == 2
    assert "cannot be looked for between 2 and 40" in answer.err
