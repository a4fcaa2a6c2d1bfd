"""`coterie accept`: the label-free set, the sample to judge, the audit, and judgements as people write them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.datasets import make_blobs

import coterie.cli.accept as accepting
from coterie.cli.accept_answer import AcceptRequest, describe_audit, sample_size
from coterie.cli.output import percent
from coterie.data.judged import read_judged
from coterie.evaluation import accept
from coterie.review import Review
from helpers.refused import refused
from helpers.review_runs import small_run

N, K = 400, 4


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run over 400 items in four groups, seen from the folder that it lies in."""
    monkeypatch.chdir(tmp_path)
    path = Path("run")
    path.mkdir()
    source = {"name": "photos", "n": N, "spec": {"kind": "images"}, "fingerprint": "ab", "skipped": []}
    record = {"status": "done", "source": source, "n_clusters": K, "seed": 3, "stages": [{"name": "cdc"}]}
    (path / "run.yaml").write_text(yaml.safe_dump(record))
    write_result(path, np.arange(N) % K)
    return path


def write_result(path: Path, labels: np.ndarray) -> None:
    confidence = np.linspace(1, 0.5, N).astype(np.float32)
    ids = [f"a/{row:03}.png" for row in range(N)]
    pq.write_table(
        pa.table({"id": ids, "label": pa.array(labels, pa.int32()), "confidence": confidence}), path / "result.parquet"
    )


def result(path: Path) -> dict[str, list]:
    found: dict[str, list] = pq.read_table(path / "result.parquet").to_pydict()
    return found


def judge(rows: np.ndarray, name: str = "judged.csv", column: str = "right", wrong_from: int = 300) -> Path:
    """A file of judgements: items are right up to row `wrong_from`, the surest of all."""
    answers = {"right": [str(row < wrong_from) for row in rows]}
    answers["label"] = [str(row % K if row < wrong_from else -1) for row in rows]
    lines = [f"id,{column}", *(f"a/{row:03}.png,{answer}" for row, answer in zip(rows, answers[column], strict=True))]
    Path(name).write_text("\n".join(lines) + "\n")
    return Path(name)


def test_very_many_groups_do_not_bury_the_answer(coterie, run):
    record = yaml.safe_load((run / "run.yaml").read_text())
    (run / "run.yaml").write_text(yaml.safe_dump(record | {"n_clusters": 300}))
    write_result(run, np.arange(N) % 300)
    answer = coterie("accept", run, "--max-error", 0.1)
    assert answer.code == 0, answer.err
    assert "The other 100 groups are in the answer of --json." in answer.out
    assert len(answer.out.splitlines()) < 210
    assert len(coterie("accept", run, "--max-error", 0.1, "--json").object["per_cluster"]) == 300


def test_without_labels_the_confidences_decide(coterie, run):
    answer = coterie("accept", run, "--max-error", 0.1, "-o", "accepted.csv", "--json")
    assert answer.code == 0, answer.err
    found, table = answer.object, result(run)
    confidence = np.array(table["confidence"], dtype=np.float64)
    assert found["threshold"] == accept.expected_threshold(confidence, 0.1)
    inside = confidence >= found["threshold"]
    assert (found["accepted"], found["n"], found["k"], found["data"]) == (inside.sum(), N, K, "photos")
    assert found["expected_error"] == pytest.approx(np.mean(1 - confidence[inside]))
    assert found["expected_error"] <= 0.1 + 1e-7
    assert sum(row["accepted"] for row in found["per_cluster"]) == found["accepted"]
    assert found["audit"] is None
    with open("accepted.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [name for name, taken in zip(table["id"], inside, strict=True) if taken]
    assert [int(row["label"]) for row in rows] == [table["label"][i] for i in np.flatnonzero(inside)]
    assert [np.float32(row["confidence"]) for row in rows] == [table["confidence"][i] for i in np.flatnonzero(inside)]


def test_a_person_reads_sentences(coterie, run):
    answer = coterie("accept", run, "--max-error", 0.1)
    said = answer.out
    accepted = coterie("accept", run, "--max-error", 0.1, "--json").object["accepted"]
    assert said.startswith(f"{accepted} of 400 accepted; ")
    assert " % of them are expected to be wrong" in said
    found = coterie("accept", run, "--max-error", 0.1, "-o", "accepted.csv", "--json").object
    lines = said.splitlines()
    assert lines[1] == f"Accepted is every item with a confidence of at least {found['threshold']:.4f}."
    assert lines[2].startswith("Nobody has checked this")
    assert [line.split() for line in lines[4:]] == [
        [str(row["cluster"]), "100", str(row["accepted"]), str(row["accepted"]), "%", f"{error:.3g}", "%"]
        for row in found["per_cluster"]
        for error in [100 * row["expected_error"]]
    ]
    assert "coterie accept run --draw 300 -o to-judge.csv" in answer.err
    only = coterie("accept", run, "--max-error", 1e-6, "-o", "accepted.parquet")
    assert only.code == 0
    assert "1 of 400 accepted" in only.out  # the one with a confidence of 1
    assert pq.read_table("accepted.parquet")["id"].to_pylist() == ["a/000.png"]


def test_the_sample_that_is_proposed_has_a_name_that_is_free(coterie, run):
    """A second look proposed the command that had been given: its file was there, and it was refused."""
    for number in ("", "-2"):
        said = coterie("accept", run, "--max-error", 0.1).err
        assert f"coterie accept run --draw 300 -o to-judge{number}.csv" in said
        assert coterie("accept", run, "--draw", 10, "-o", f"to-judge{number}.csv").code == 0


@pytest.mark.parametrize("hinted", [True, False])
def test_a_reviewed_table_that_is_older_than_its_log_accepts_nothing(hinted, monkeypatch):
    table = SimpleNamespace(claim=SimpleNamespace(voided=None))
    monkeypatch.setattr(accepting, "read_review", lambda run: table)
    monkeypatch.setattr(accepting, "is_current", lambda run: hinted)
    monkeypatch.setattr(accepting, "before_review", lambda run, answer: ["It was reviewed"])
    assert ("--only accepted" in accepting.of_review(SimpleNamespace(path=Path("run")))[0]) is hinted


def test_no_larger_sample_is_proposed_than_there_are_items():
    assert [sample_size(n) for n in (1, 120, 300, 50_000)] == [1, 120, 300, 300]


@pytest.mark.parametrize(
    ("share", "said"),
    [
        *((0, "0 %"), (0.05, "5 %"), (0.04873, "4.87 %"), (1.19e-7, "0.0000119 %"), (1, "100 %")),
        *((0.9995, "99.95 %"), (0.99994, "99.994 %"), (0.99949, "99.9 %"), (-0.012, "-1.2 %")),
    ],
)
def test_a_share_is_written_without_powers_and_called_all_only_where_it_is(share, said):
    assert percent(share) == said


def test_a_sample_is_drawn_judged_and_audited(coterie, run):
    answer = coterie("accept", run, "--draw", 200, "-o", "to-judge.csv", "--json")
    assert answer.object["drawn"] == 200
    with open("to-judge.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "proposed", "confidence", "right"]
    table = result(run)
    assert len({row["id"] for row in rows}) == 200
    for row in rows:
        place = table["id"].index(row["id"])
        assert int(row["proposed"]) == table["label"][place]
        row["right"] = "TRUE" if place < 300 else "false"
    # As a spreadsheet writes it where the comma is the decimal sign.
    with open("filled.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    answer = coterie("accept", run, "--max-error", 0.1, "--judged", "filled.csv", "--json")
    assert answer.code == 0, answer.err
    found, audit = answer.object, answer.object["audit"]
    assert audit["passed"]
    assert 0.5 < found["share"] < 0.85
    assert audit["judged"] == 200
    inside = [row for row in rows if float(row["confidence"]) >= found["threshold"]]
    assert (audit["judged_accepted"], audit["wrong"]) == (len(inside), sum(row["right"] == "false" for row in inside))
    assert audit["bound"] == accept.error_bound(audit["wrong"], audit["judged_accepted"]) <= 0.1
    sentence = f"{found['accepted']} of 400 accepted; at most 10 % of them wrong, with 95 % confidence."
    assert found["sentence"] == sentence
    said = coterie("accept", run, "--max-error", 0.1, "--judged", "filled.csv").out
    assert said.startswith(sentence)
    assert f"{audit['judged_accepted']} judged items, {audit['wrong']} of them wrong" in said
    assert "drawn at random" in said


def test_of_two_columns_of_answers_the_empty_one_is_passed_over(coterie, run):
    rows = accept.draw_sample(N, 150, seed=5)
    judge(rows, "right.csv", "right")
    groups = [str(row % K if row < 300 else -1) for row in rows]
    lines = [f"a/{row:03}.png,{row % K},,{group}" for row, group in zip(rows, groups, strict=True)]
    Path("both.csv").write_text("\n".join(["id,proposed,right,label", *lines]) + "\n")
    found = [
        coterie("accept", run, "--max-error", 0.1, "--judged", name, "--json").object["audit"]
        for name in ("right.csv", "both.csv")
    ]
    assert found[0] == found[1]
    Path("none.csv").write_text("id,right,label\n" + "".join(f"a/{row:03}.png,,\n" for row in rows))
    answer = coterie("accept", run, "--judged", "none.csv")
    assert answer.code == 2
    assert "have no answer in the column right" in answer.err


def test_right_and_label_in_csv_and_parquet_say_the_same(coterie, run):
    rows = accept.draw_sample(N, 150, seed=5)
    judge(rows, "right.csv", "right")
    judge(rows, "label.csv", "label")
    ids = [f"a/{row:03}.png" for row in rows]
    pq.write_table(pa.table({"path": ids, "right": pa.array(rows < 300)}), "right.parquet")
    pq.write_table(pa.table({"id": ids, "label": np.where(rows < 300, rows % K, -1.0)}), "label.parquet")
    names = ["cat", "dog", "owl", "7"]
    per_cluster = [{"cluster": group, "class": name} for group, name in enumerate(names)]
    (run / "metrics.json").write_text(json.dumps({"per_cluster": per_cluster}))
    by_name = [names[row % 3] if row % K < 3 and row < 300 and row % 3 == row % K else str(row % K) for row in rows]
    answers = [name if row < 300 else -1 for name, row in zip(by_name, rows, strict=True)]
    pq.write_table(pa.table({"id": ids, "label": [str(answer) for answer in answers]}), "names.parquet")
    found = [
        coterie("accept", run, "--max-error", 0.1, "--judged", name, "--json").object["audit"]
        for name in ("right.csv", "label.csv", "right.parquet", "label.parquet", "names.parquet")
    ]
    assert found[0]["passed"]
    assert all(audit == found[0] for audit in found)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_judgements_come_as_people_write_them(coterie, run, separator):
    rows = accept.draw_sample(N, 150, seed=5)
    judge(rows, "plain.csv", "right")
    lines = ["Filename" + separator + "Right"]
    lines += [rf'"C:\photos\a\{row:03}.png"{separator}{"Yes" if row < 300 else "no"}' for row in rows]
    Path("other.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    found = [
        coterie("accept", run, "--max-error", 0.1, "--judged", name, "--json").object["audit"]
        for name in ("plain.csv", "other.csv")
    ]
    assert found[0]["judged"] == 150
    assert found[0] == found[1]


def test_a_class_that_no_group_stands_for_counts_as_wrong(coterie, run):
    per_cluster = [{"cluster": group, "class": name} for group, name in enumerate(["cat", "dog", "owl", None])]
    (run / "metrics.json").write_text(json.dumps({"per_cluster": per_cluster}))
    rows = accept.draw_sample(N, 200, seed=2)
    names = ["cat", "Dog", "owl", "newt"]
    lines = ["id,label", *(f"a/{row:03}.png,{names[row % K]}" for row in rows)]
    Path("judged.csv").write_text("\n".join(lines))
    answer = coterie("accept", run, "--max-error", 0.5, "--judged", "judged.csv", "--json")
    assert answer.code == 0, answer.err
    newts = int(np.sum(rows % K == 3))
    (note,) = answer.object["notes"]
    assert f"{newts} of 200 judged items count as wrong" in note
    assert "newt" in note
    found = read_judged(Path("judged.csv"), result(run)["id"], np.arange(N) % K, K, {"cat": 0, "dog": 1, "owl": 2})
    assert found.right.tolist() == [row % K != 3 for row in found.rows]
    Path("judged.csv").write_text("\n".join(lines[:1] + [line for line in lines if line.endswith("newt")]))
    refused(coterie("accept", run, "--judged", "judged.csv"), "'newt' of", "one of cat, dog, owl")


def test_when_nothing_passes_it_says_what_it_would_take(coterie, run):
    file = judge(accept.draw_sample(N, 100, seed=0), wrong_from=10)
    answer = coterie("accept", run, "--judged", file, "--json", "-o", "accepted.csv")
    assert answer.code == 0
    found, audit = answer.object, answer.object["audit"]
    assert (found["accepted"], found["threshold"], audit["passed"], audit["needed"]) == (0, None, False, 59)
    there = audit["judged_accepted"] + audit["more_there"]
    assert accept.error_bound(audit["wrong"], there) <= 0.05 < accept.error_bound(audit["wrong"], there - 1)
    assert Path("accepted.csv").read_text() == "id,label,confidence\n"
    said = coterie("accept", run, "--judged", file).out
    assert said.startswith("Nothing accepted:")
    assert f"it takes {audit['more_there']:,} more" in said
    assert "59 judged items would be enough" in said


@pytest.mark.parametrize(("accepted", "judged", "n"), [(10_000, 60, 40_000), (90, 60, 40_000), (10_000, 60, 10_000)])
def test_how_many_more_to_draw_from_all_items(accepted, judged, n):
    """So many that the set can expect what it lacks; none where the set, or what is left, has not as many."""
    audit = accept.Audit([accept.Tried(0.9, accepted, judged, 1, 0.08, passed=False)], None)
    found = describe_audit(audit, 9_970, n, AcceptRequest(Path("run")))
    there = found["more_there"]
    assert accept.error_bound(1, judged + there) <= 0.05 < accept.error_bound(1, judged + there - 1)
    assert there == 33
    assert found["more"] == (132 if (accepted, n) == (10_000, 40_000) else None)


def test_more_may_be_drawn_beside_those_judged(coterie, run):
    first = accept.draw_sample(N, 300, seed=1)
    answer = coterie("accept", run, "--draw", 100, "--judged", judge(first), "-o", "more.parquet")
    assert answer.code == 0
    assert "into one file" in answer.out
    more = [int(name[2:5]) for name in pq.read_table("more.parquet")["id"].to_pylist()]
    assert sorted([*first.tolist(), *more]) == list(range(N))


def test_a_sample_too_small_for_any_bound_says_so_when_it_is_drawn(coterie, run):
    few = coterie("accept", run, "--draw", 58, "-o", "few.csv")
    assert few.code == 0
    assert "58 judged items cannot show that at most 5 % are wrong: that takes at least 59" in few.out
    assert "Next:" not in few.err
    for options in (("--draw", 59), ("--draw", 58, "--max-error", 0.1), ("--draw", 1, "--judged", judge(range(58)))):
        enough = coterie("accept", run, *options, "-o", f"enough-{len(options)}-{options[1]}.csv")
        assert "cannot show" not in enough.out
        assert "Next:" in enough.err


LINES = [f"a/{row:03}.png" for row in range(70)]


def test_no_more_items_are_asked_for_than_there_are(coterie, run):
    path = judge(accept.draw_sample(N, 300, seed=0), wrong_from=150)
    answer = coterie("accept", run, "--judged", path, "--json")
    assert answer.object["audit"]["passed"] is False
    assert answer.object["audit"]["more"] is None
    said = coterie("accept", run, "--judged", path).out
    assert "there are not as many" in said
    assert "draw about" not in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("needs a column id", "none")),
        ("thing,right\nx,true\n", ("needs a column id", "thing, right")),
        ("id,answer\nx,true\n", ("needs a column right", "label", "id, answer")),
        ("id,right\na/000.png,true\nb.png,true\nc.png,true\n", ("b.png", "2 such ids", "a/000.png")),
        ("id,right\na/000.png,true\na/001.png,true\na/000.png,false\n", ("names a/000.png twice",)),
        ("id,right\na/000.png,true\na/001.png,\na/002.png,\n", ("2 of the 3", "the first is a/001.png")),
        ("id,right\na/000.png,maybe\n", ("'maybe' of a/000.png", "true or false")),
        ("id,label\na/000.png,9\n", ("'9' of a/000.png", "0 to 3")),
        ("id,label\na/000.png,cat\n", ("'cat' of a/000.png", "0 to 3")),
        ("id,label\na/000.png,\n", ("'' of a/000.png",)),
        ("id,right\na/000.png\n", ("Line 2", "1 columns", "first has 2")),
        ("id,proposed,right\na/000.png,0,true\na/001.png,3,true\n", ("another run", "a/001.png", "group 3")),
        ("id,right\n" + "".join(f"{name},true\n" for name in LINES[:20]), ("Only 20 items", "takes 59", "39 more")),
        ("id,right\n", ("Only 0 items", "59 more")),
        ("id,label,confidence\na/000.png,0,0.9\na/001.png,1,0.9\n", ("coterie wrote", "nobody judged")),
        (
            "id,label,name,confidence,source,decided\na/000.png,0,,0.9,model,false\na/001.png,3,,0.9,person,true\n",
            ("a table of a review or of coterie export", "--from judged.csv"),
        ),
    ],
)
def test_defects_of_a_file_of_judgements(coterie, run, content, words):
    Path("judged.csv").write_text(content)
    refused(coterie("accept", run, "--judged", "judged.csv"), *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--judged", "nowhere.csv"), ("nowhere.csv does not exist",)),
        (("--judged", "run/run.yaml"), (".csv or .parquet",)),
        (("--judged", "broken.parquet"), ("broken.parquet cannot be read",)),
        (("--max-error", 5), ("accepted error is 5", "0.05")),
        (("--draw", 5, "-o", "drawn.csv", "--seed", -1), ("seed is -1",)),
        (("--judged", "judged.csv", "--confidence-level", 95), ("confidence level is 95", "0.95")),
        (("--confidence-level", 0.9), ("of the bound from judged items", "--judged")),
        (("--judged", "judged.csv", "--seed", 3), ("--seed is of the sample", "--draw")),
        (("-o", "accepted.txt"), (".csv or .parquet",)),
        (("--judged", "judged.csv", "-o", "judged.csv"), ("judged.csv, which this command reads",)),
        (("--draw", 5), ("--draw needs a file", "-o")),
        (("--draw", 5, "-o", "judged.csv"), ("there already", "another name")),
        (("--draw", 401, "-o", "new.csv"), ("401 items cannot be drawn", "from 1 to 400")),
        (("--draw", 371, "--judged", "judged.csv", "-o", "new.csv"), ("from 1 to 330",)),
        (("--draw", 5, "-o", "new.csv", "--max-error", 5), ("accepted error is 5", "0.05")),
        (("--draw", 5, "-o", "new.csv", "--confidence-level", 95), ("confidence level is 95", "0.95")),
    ],
)
def test_options_that_cannot_be(coterie, run, options, words):
    Path("broken.parquet").write_text("no table")
    before = judge(np.arange(70)).read_bytes()
    refused(coterie("accept", run, *options), *words)
    assert Path("judged.csv").read_bytes() == before
    assert not Path("new.csv").exists()


def test_a_folder_that_is_no_finished_run(coterie, run):
    Path("empty").mkdir()
    refused(coterie("accept", "empty"), "empty holds no run.yaml")
    record = yaml.safe_load((run / "run.yaml").read_text())
    (run / "run.yaml").write_text(yaml.safe_dump(record | {"status": "stopped"}))
    refused(coterie("accept", run), "not finished", "'stopped'", "--resume")


# Confidences that are none


def uncalibrated(run: Path, how: str) -> None:
    record = yaml.safe_load((run / "run.yaml").read_text())
    stages = {
        "told": [{"name": "cdc"}],
        "older": [{"name": "finch", "settings": {}}],
        "single": [{"name": "moco"}, {"name": "cdc", "settings": {"layout": "single"}}],
    }
    record["stages"] = stages[how]
    if how == "told":
        record["calibrated"] = False
    (run / "run.yaml").write_text(yaml.safe_dump(record))


@pytest.mark.parametrize("how", ["told", "older", "single"])
def test_confidences_that_are_not_calibrated_are_not_taken_for_a_promise(coterie, run, how):
    uncalibrated(run, how)
    answer = coterie("accept", run, "--max-error", 0.1, "-o", "accepted.csv")
    assert answer.code == 2
    assert "not calibrated" in answer.err
    assert "--resume --calibrate" in answer.err
    assert "--draw" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not Path("accepted.csv").exists()


def test_an_audit_needs_no_calibration(coterie, run):
    uncalibrated(run, "older")
    assert coterie("accept", run, "--draw", 100, "-o", "to-judge.csv").code == 0
    judged = judge(np.arange(0, N, 2))
    answer = coterie("accept", run, "--max-error", 0.1, "--judged", judged, "--json")
    assert answer.code == 0, answer.err
    assert answer.object["audit"]["passed"]
    assert not answer.object["calibrated"]


@pytest.mark.parametrize("how", ["calibration", "calibrated"])
def test_an_older_run_with_a_calibration_head_counts_as_calibrated(coterie, run, how):
    uncalibrated(run, "older")
    record = yaml.safe_load((run / "run.yaml").read_text())
    record[how] = {"cells": 10} if how == "calibration" else True
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    assert coterie("accept", run, "--max-error", 0.1).code == 0


def test_what_the_run_was_warned_of_is_said_again(coterie, run):
    record = yaml.safe_load((run / "run.yaml").read_text())
    record["warnings"] = ["One group holds 390 of the 400 items (98%)."]
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    assert "Note: One group holds 390" in coterie("accept", run).out
    assert coterie("accept", run, "--json").object["warnings"] == record["warnings"]


def test_of_a_reviewed_run_it_says_where_the_reviewed_groups_are(coterie, tmp_path):
    run = small_run(tmp_path, pictures=False)
    assert coterie("accept", run, "--max-error", 0.3, "--json").object["notes"] == []
    with Review(run) as review:
        review.reject([3])
    notes = coterie("accept", run, "--max-error", 0.3, "--json").object["notes"]
    assert len(notes) == 1
    assert f"coterie export {run} --to csv" in notes[0]


def test_rows_far_outside_are_not_accepted_however_sure_they_look(coterie, tmp_path):
    rows = make_blobs(60, n_features=8, centers=3, random_state=0)[0].astype(np.float32)
    rows[5], rows[17] = 1e6, -1e7
    np.save(tmp_path / "rows.npy", rows)
    out, table = tmp_path / "run", tmp_path / "accepted.csv"
    fast = ("--method", "kmeans", "--set", "calibrate.epochs=2")
    assert coterie("fit", tmp_path / "rows.npy", "-k", 3, "-o", out, *fast).code == 0
    found = coterie("accept", out, "--max-error", 0.7, "-o", table, "--json").object
    accepted = [row["id"] for row in csv.DictReader(table.read_text().splitlines())]
    assert len(accepted) == found["accepted"] > 10
    assert not {"5", "17"} & set(accepted)
    assert found["notes"] == ["2 rows far outside the others: not accepted."]
