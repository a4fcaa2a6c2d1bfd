"""`coterie fit --init RUN --judged FILE`: only the calibration head sees judgements, and all say so."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from coterie import load
from coterie.cli import main

N, K = 240, 3


def fit(out: Path, data: Path, *more: str) -> int:
    """Groups by FINCH, which trains nothing: the calibration head is all that is trained."""
    given = ["-k", str(K), "--method", "finch", "--device", "cpu", "-q"]
    given += [] if "--set" in more else ["--set", "calibrate.epochs=20"]
    return main(["fit", str(data), *given, "-o", str(out), *more])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and the data that it is over: three clouds."""
    folder = tmp_path_factory.mktemp("judged")
    rng = np.random.default_rng(0)
    data = np.eye(K, 8)[np.arange(N) % K] * 6 + rng.normal(size=(N, 8))
    np.save(folder / "data.npy", data.astype(np.float32))
    assert fit(folder / "first", folder / "data.npy") == 0
    return folder / "first", folder / "data.npy"


def write_judged(path: Path, run: Path, count: int = 30) -> list[int]:
    """Every fourth judged row is said to belong to the next group."""
    table = pq.read_table(run / "result.parquet").to_pydict()
    rows = list(range(0, N, N // count))[:count]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label"])
        for place, row in enumerate(rows):
            group = table["label"][row]
            writer.writerow([table["id"][row], (group + 1) % K if place % 4 == 0 else group])
    return rows


@pytest.fixture(scope="module")
def kept(fitted: tuple[Path, Path]) -> tuple[Path, Path, list[int]]:
    """A run that judgements taught, their file, and the judged rows."""
    run, data = fitted
    judged = run.parent / "judged.csv"
    rows = write_judged(judged, run)
    assert fit(run.parent / "taught", data, "--init", str(run), "--judged", str(judged)) == 0
    return run.parent / "taught", judged, rows


@pytest.fixture
def taught(kept: tuple[Path, Path, list[int]], tmp_path: Path) -> tuple[Path, Path, list[int]]:
    """The same, to do anything with."""
    run, judged, rows = kept
    return shutil.copytree(run, tmp_path / "out"), judged, rows


def test_judgements_reach_the_confidences_alone(
    fitted: tuple[Path, Path], taught: tuple[Path, Path, list[int]], tmp_path: Path
) -> None:
    (run, data), (judged, _, rows) = fitted, taught
    plain = tmp_path / "plain"
    assert fit(plain, data, "--init", str(run), "--calibrate") == 0
    a, b = (pq.read_table(path / "result.parquet").to_pydict() for path in (plain, judged))
    assert a["label"] == b["label"]  # the same groups as without a judgement
    wrong = np.array(rows[::4])
    before, after = (np.array(table["confidence"])[wrong].mean() for table in (a, b))
    assert after < before  # of items that a person put elsewhere
    record = yaml.safe_load((judged / "run.yaml").read_text())
    assert record["labels_used"]["judged"] == len(rows)
    assert len(record["labels_used"]["sha256"]) == 64
    assert record["calibrated"]
    assert "labels_used" not in yaml.safe_load((plain / "run.yaml").read_text())
    page = (judged / "report.html").read_text(encoding="utf-8")
    assert f"{len(rows)} judged labels took part" in page
    assert "judged labels took part" not in (plain / "report.html").read_text(encoding="utf-8")


def test_evaluate_leaves_used_items_out_and_compare_sets_them_apart(
    fitted: tuple[Path, Path],
    taught: tuple[Path, Path, list[int]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (run, _), (out, _, rows) = fitted, taught
    np.save(tmp_path / "labels.npy", np.arange(N) % K)
    assert main(["evaluate", str(out), "--labels", str(tmp_path / "labels.npy")]) == 0
    assert json.loads((out / "metrics.json").read_text())["n"] == N - len(rows)
    assert (
        f"{len(rows)} items whose judgement took part are left out, {N - len(rows)} measured" in capsys.readouterr().out
    )
    assert main(["compare", str(run), str(out), "-o", str(tmp_path / "c.html")]) == 0
    said = capsys.readouterr().out
    assert said.index("first") < said.index("Runs in which judged labels took part") < said.rindex("out")
    assert "Runs in which judged labels took part" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_several_runs_are_measured_without_the_judged_items_and_go_on_with_the_same(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = fitted
    rows = write_judged(tmp_path / "judged.csv", run)
    labels = np.array([str(label) for label in pq.read_table(run / "result.parquet")["label"].to_pylist()])
    labels[rows] = "elsewhere"  # all others are right
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *enumerate(labels.tolist())])
    out = tmp_path / "out"
    begin = (out, data, "--init", str(run), "--set", "calibrate.epochs=2", "--labels", str(tmp_path / "labels.csv"))
    assert fit(*begin, "--judged", str(tmp_path / "judged.csv"), "--runs", "2", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["labels_used"] == len(rows)
    assert {head["acc"] for head in answer["heads"].values()} == {1.0}
    (tmp_path / "moved.csv").write_bytes((tmp_path / "judged.csv").read_bytes())
    write_judged(tmp_path / "judged.csv", run, 20)
    again = ("--runs", "3", "--resume")
    assert fit(*begin, "--judged", str(tmp_path / "judged.csv"), *again) == 2  # one of three by other judgements
    assert "is not what those runs were taught with" in capsys.readouterr().err
    assert fit(*begin, "--judged", str(tmp_path / "moved.csv"), *again) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--judged is about a finished run: give that run with --init"),
        (["--init", "{run}", "--no-calibrate"], "leave --no-calibrate out"),
    ],
)
def test_judgements_need_a_finished_run_and_a_calibration(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    run, data = fitted
    write_judged(tmp_path / "judged.csv", run)
    given = [part.format(run=run) for part in more]
    assert fit(tmp_path / "out", data, "--judged", str(tmp_path / "judged.csv"), *given) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_judgements_of_a_run_that_is_not_done_are_refused(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    run, data = shutil.copytree(fitted[0], tmp_path / "run"), fitted[1]
    write_judged(tmp_path / "judged.csv", run)
    (run / "run.yaml").write_text((run / "run.yaml").read_text().replace("status: done", f"status: {status}"))
    given = ["--init", str(run), "--judged", str(tmp_path / "judged.csv")]
    assert fit(tmp_path / "out", data, *given) == 2
    assert "is not finished: finish it with coterie fit ... --resume" in capsys.readouterr().err


def test_judgements_of_other_data_are_refused(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = fitted
    write_judged(tmp_path / "judged.csv", run)
    np.save(tmp_path / "other.npy", np.load(data)[::-1])
    given = ["--init", str(run), "--judged", str(tmp_path / "judged.csv")]
    assert fit(tmp_path / "out", tmp_path / "other.npy", *given) == 2
    assert "holds others: fit the data of that run" in capsys.readouterr().err


def test_a_run_is_not_resumed_with_other_judgements(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = fitted
    write_judged(tmp_path / "judged.csv", run)
    write_judged(tmp_path / "other.csv", run, 20)
    (tmp_path / "moved.csv").write_bytes((tmp_path / "judged.csv").read_bytes())
    begin = (tmp_path / "out", data, "--init", str(run), "--set", "calibrate.epochs=2")
    assert fit(*begin, "--judged", str(tmp_path / "judged.csv")) == 0
    record = (tmp_path / "out" / "run.yaml").read_text()
    for given in (["--judged", str(tmp_path / "other.csv")], ["--calibrate"]):
        assert fit(*begin, "--resume", *given) == 2
        assert "was begun with --judged" in capsys.readouterr().err
    assert (tmp_path / "out" / "run.yaml").read_text() == record
    assert fit(*begin, "--resume", "--judged", str(tmp_path / "moved.csv")) == 0


def test_a_run_goes_on_only_where_the_judged_one_is_still_there(
    kept: tuple[Path, Path, list[int]], fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, out = shutil.copytree(fitted[0], tmp_path / "begun"), tmp_path / "out"
    given = ("--init", str(begun), "--judged", str(kept[1]))
    assert fit(out, fitted[1], *given) == 0
    shutil.rmtree(begun)
    assert fit(out, fitted[1], *given, "--resume") == 2
    assert f"the groups of {begun}, which is not there any more" in capsys.readouterr().err
    assert fit(tmp_path / "new", fitted[1], *given) == 2
    assert "There is no model at" in capsys.readouterr().err


def test_judged_items_do_not_check_what_they_taught(
    taught: tuple[Path, Path, list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their confidences follow from their judgements: `accept` took both, and promised a bound that did not hold."""
    out, judged, rows = taught
    for command in (["accept", str(out)], ["recalibrate", str(out)]):
        assert main([*command, "--judged", str(judged)]) == 2
        assert "took part in the confidences of this run, so they cannot check them" in capsys.readouterr().err
    ids = pq.read_table(out / "result.parquet")["id"].to_pylist()
    used = {ids[row] for row in rows}
    assert main(["accept", str(out), "--draw", str(N - len(rows)), "-o", str(tmp_path / "drawn.csv")]) == 0
    drawn = [line.split(",")[0] for line in (tmp_path / "drawn.csv").read_text().splitlines()[1:]]
    assert not used & set(drawn)
    both = tmp_path / "both.csv"
    both.write_text("id,right\n" + "".join(f"{item},true\n" for item in [*used, *drawn]))
    capsys.readouterr()
    words = ["--max-error", "0.1", "--judged", str(both), "-o", str(tmp_path / "accepted.csv"), "--json"]
    assert main(["accept", str(out), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["audit"]["judged"] == N - len(rows)
    assert found["labels_used"] == len(rows)
    assert f"{len(rows)} judged labels took part in this run." in found["notes"]
    assert f"{len(rows)} judged items took part in the confidences" in " ".join(found["notes"])
    accepted = {line.split(",")[0] for line in (tmp_path / "accepted.csv").read_text().splitlines()[1:]}
    assert accepted
    assert not used & accepted


def test_every_table_of_a_run_that_judgements_taught_says_so(
    fitted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = fitted
    rows = write_judged(tmp_path / "judged.csv", run)
    given = ("--init", str(run), "--judged", str(tmp_path / "judged.csv"), "--set", "calibrate.epochs=2")
    assert fit(tmp_path / "runs", data, *given, "--runs", "2") == 0
    assert json.loads((tmp_path / "runs" / "ensemble.json").read_text())["labels_used"] == len(rows)
    out = tmp_path / "runs" / "seed-0"
    capsys.readouterr()
    for place in ("new.parquet", "new"):
        assert main(["predict", str(out), str(data), "-o", str(tmp_path / place), "-q", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["labels_used"] == len(rows)
        assert f"{len(rows)} judged labels took part in this run." in found["notes"]
    assert main(["export", str(out), "--to", "csv", "-o", str(tmp_path / "groups.csv")]) == 0
    assert f"Note: {len(rows)} judged labels took part in this run." in capsys.readouterr().out
    load(out).save(tmp_path / "saved")
    tables = ["runs/ensemble.parquet", "runs/seed-0/result.parquet", "saved/result.parquet", "new.parquet"]
    for table in [*tables, "new/part-000000.parquet"]:
        assert (pq.read_schema(tmp_path / table).metadata or {})[b"coterie.labels_used"] == b"%d" % len(rows), table
    assert b"coterie.labels_used" not in pq.read_schema(run / "result.parquet").metadata
