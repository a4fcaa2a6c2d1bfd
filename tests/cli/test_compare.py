"""`coterie compare` on runs as `coterie fit` writes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers.refused import refused


@pytest.fixture(scope="module")
def seeds(coterie, grouped, vectors, tmp_path_factory) -> list[Path]:
    """Two runs over the same embeddings, seeds 0 and 1."""
    runs = [tmp_path_factory.mktemp("seeds") / name for name in ("seed-0", "seed-1")]
    shutil.copytree(grouped, runs[0])
    assert coterie("fit", vectors, "-k", 3, "-o", runs[1], "--epochs", 1, "--seed", 1).code == 0
    return runs


def test_runs_stand_side_by_side(coterie, seeds, finished, tmp_path):
    page = tmp_path / "compare.html"
    answer = coterie("compare", *seeds, finished, "-o", page, "--json")
    assert answer.code == 0, answer.err
    found = answer.object
    assert [row["run"] for row in found["runs"]] == ["seed-0", "seed-1", "run"]
    assert [(row["data"], row["n"], row["k"], row["seed"]) for row in found["runs"]] == [
        ("vectors", 60, 3, 0),
        ("vectors", 60, 3, 1),
        ("pixels", 96, 10, 0),
    ]
    assert [row["stages"] for row in found["runs"]] == ["cdc", "cdc", "moco → cdc"]
    assert found["runs"][2]["epochs"] == [1, 2]
    assert found["runs"][0]["metrics"]["acc"] is None
    assert 0 <= found["runs"][2]["metrics"]["acc"] <= 1
    (summary,) = found["summaries"]
    assert (summary["seeds"], summary["runs"]) == ([0, 1], ["seed-0", "seed-1"])
    agreement = {(pair["first"], pair["second"]): pair["accuracy"] for pair in found["agreement"]}
    assert 0.3 <= agreement["seed-0", "seed-1"] <= 1
    assert agreement["seed-0", "run"] is agreement["seed-1", "run"] is None
    assert "3 runs side by side" in page.read_text()


def test_a_person_reads_tables(coterie, seeds, finished):
    answer = coterie("compare", *seeds, finished)
    said = answer.out
    lines = said.splitlines()
    assert lines[0].split()[:4] == ["run", "data", "method", "n"]
    assert lines[1].startswith("seed-0  vectors")
    assert lines[3].split()[-3:-1] != ["-", "-"]
    assert "Over seeds, mean ± standard deviation" in said
    assert "Agreement of any two runs" in said
    assert "-o compare.html" in answer.err
    assert coterie("compare", seeds[0]).code == 0


def test_runs_without_their_models_have_no_scores(coterie, seeds, tmp_path):
    runs, page = [], tmp_path / "compare.html"
    for seed in seeds:
        runs.append(shutil.copytree(seed, tmp_path / seed.name, ignore=shutil.ignore_patterns("model")))
    answer = coterie("compare", *runs, "-o", page, "--json")
    assert [run["kappa"] for run in answer.object["trust"]["runs"]] == [None, None]
    assert "NaN" not in answer.out
    assert ">nan<" not in page.read_text()
    out = coterie("compare", *runs).out
    assert "nan" not in out
    for run in runs:  # ranks of less than there seems to be were not told apart from those of all
        assert f"{run.name} lends no features to rank the others by: The run in {run} has no model" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), ("nowhere holds no run.yaml",)),
        (("RUN", "-o", "compare.txt"), ("compare.txt must end in .html",)),
        (("RUN", "-o", "nowhere/compare.html"), ("cannot be written",)),
        ((), ("Missing argument",)),
    ],
)
def test_what_cannot_be_compared(coterie, seeds, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    answer = coterie("compare", *(str(seeds[0]) if word == "RUN" else word for word in arguments))
    refused(answer, *words)
    assert list(tmp_path.iterdir()) == []


def test_confidences_that_are_not_calibrated_are_marked(coterie, seeds, vectors, tmp_path):
    assert coterie("fit", vectors, "-k", 3, "-o", tmp_path / "raw", "--method", "finch", "--no-calibrate").code == 0
    answer = coterie("compare", seeds[0], tmp_path / "raw", "-o", tmp_path / "page.html")
    assert "* not calibrated" in answer.out
    lines = answer.out.splitlines()
    assert not lines[1].split()[-2].endswith("*")
    assert lines[2].split()[-2].endswith("*")
    assert "Confidences marked * are not calibrated." in (tmp_path / "page.html").read_text()
    rows = coterie("compare", seeds[0], tmp_path / "raw", "--json").object["runs"]
    assert [row["calibrated"] for row in rows] == [True, False]
    assert "* not" not in coterie("compare", seeds[0]).out
