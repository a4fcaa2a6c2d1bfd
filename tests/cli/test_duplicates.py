"""`coterie duplicates`: of a source, and of a run with its report."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image
from sklearn.datasets import make_blobs

from coterie.twins import find_duplicates


def test_copies_among_embeddings_and_in_a_report(coterie, tmp_path):
    points = make_blobs(80, n_features=8, centers=3, random_state=0)[0].astype(np.float32)
    points[3, 0], points[9] = 0, points[4] + 0.001
    points[7] = np.where(points[3] == 0, np.float32(-0.0), points[3])  # equal, though not in its bytes
    path, run, table = tmp_path / "points.npy", tmp_path / "run", tmp_path / "sets.csv"
    np.save(path, points)
    answer = coterie("duplicates", path, "-o", table, "--json")
    assert answer.code == 0, answer.err
    sets = [(one["items"], one["exact"]) for one in answer.object["sets"]]
    assert sets == [(["3", "7"], True), (["4", "9"], False)]
    with table.open() as file:
        assert [row["set"] for row in csv.DictReader(file)] == ["0", "0", "1", "1"]
    assert coterie("duplicates", path, "-o", table).code == 2  # it is there already

    answer = coterie("fit", path, "-k", 3, "--method", "ae", "--epochs", 1, "--no-calibrate", "-o", run, "-q")
    assert answer.code == 0, answer.err
    answer = coterie("duplicates", run)
    assert answer.code == 0, answer.err
    assert "same  3  7" in answer.out
    assert "Near-duplicates" in (run / "report.html").read_text()
    np.save(path, points + 1)
    answer = coterie("duplicates", run)
    assert answer.code == 2
    assert "has changed since" in answer.err
    path.unlink()
    answer = coterie("duplicates", run)
    assert answer.code == 2
    assert f"{path}, which {run} was fitted on, is not there any more" in answer.err


def test_a_row_far_outside_makes_no_duplicates_of_the_others(coterie, tmp_path):
    points = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    points[7], points[9] = 1e7, points[3]
    np.save(tmp_path / "points.npy", points)
    sets = coterie("duplicates", tmp_path / "points.npy", "--json").object["sets"]
    assert [one["items"] for one in sets] == [["3", "9"]]


def test_pictures_that_cannot_be_read_are_named(coterie, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_text("no picture")
    assert "bad.png" in coterie("duplicates", tmp_path).out
    answer = coterie("duplicates", tmp_path, "--json").object
    assert (answer["n"], answer["skipped"], answer["skipped_items"][0]["id"]) == (12, 1, "bad.png")
    said = coterie("choose-k", tmp_path, "--most", 3).out
    assert "bad.png" in said
    assert "--family" not in said


def test_pictures_of_one_colour_are_copies_of_their_own_colour_alone():
    """Less their mean, and scaled, nothing is left of them: a black picture was a near-duplicate of a white one."""
    pictures = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    pictures[2], pictures[5], pictures[6], pictures[8] = 0, 255, (200, 20, 20), (100, 10, 10)
    pictures[9] = pictures[5]
    assert [rows.tolist() for rows in find_duplicates(pictures).sets] == [[5, 9]]


def test_where_there_are_none_it_says_so(coterie, tmp_path):
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32))
    answer = coterie("duplicates", tmp_path / "points.npy", "-o", tmp_path / "sets.csv")
    assert answer.out == "None of the 40 items is a near-duplicate of another.\n"
    assert (tmp_path / "sets.csv").exists()


def test_pictures_of_digits(coterie):
    answer = coterie("duplicates", "digits", "--json")
    assert answer.code == 0, answer.err
    assert answer.object["items"] < 90


def test_embeddings_of_huge_values_are_compared_by_their_angles():
    """Lengths beyond 1.8e19 are infinite in float32: every row became 0, and all were duplicates of each other."""
    points = np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32)
    points[7] = points[3]
    for size in (1.0, 1e-20, 1e25):
        assert [rows.tolist() for rows in find_duplicates(points * np.float32(size)).sets] == [[3, 7]]
