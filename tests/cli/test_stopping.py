"""Runs that go wrong or are stopped say so, and leave a folder that says so too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

import coterie as package
from coterie import pipeline
from coterie.records import read_record
from coterie.running import preparing
from coterie.types import RunFailed
from helpers import forked
from helpers.forked import COTERIE


def read(run: Path) -> dict:
    return yaml.safe_load((run / "run.yaml").read_text())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("cdc.head_rate=1e30", "cdc.backbone_rate=1e30"), "became nan"),
        (("cdc.init=random", "cdc.layout=single", "cdc.threshold=0", "cdc.head_rate=0.5"), "collapsed"),
        (("cdc.threshold=1",), "selected no item"),
    ],
)
def test_a_failed_run_gives_reason_and_advice_everywhere(coterie, vectors, tmp_path, settings, reason):
    run = tmp_path / "run"
    options = [word for setting in settings for word in ("--set", setting)]
    answer = coterie("fit", vectors, "-k", 3, "-o", run, "--epochs", 30, "--json", "-q", *options)
    assert answer.code == 1
    assert answer.out == ""
    record = read(run)
    assert record["status"] == "failed"
    failure = record["failure"]
    assert reason in failure["reason"]
    assert answer.err == f"coterie: {failure['reason']} {failure['advice']}\n"
    page = (run / "report.html").read_text()
    assert "This run failed" in page
    assert failure["advice"].split("(")[0] in page
    assert not (run / "model").exists()
    assert coterie("predict", run, vectors, "-o", tmp_path / "x.parquet").code == 2
    assert coterie("report", run).code == 0


def test_weights_that_are_not_finite_are_the_runs_fault_and_not_the_inputs(coterie, images, quick, tmp_path):
    """Here K-means meets the first NaN, before any loss is looked at."""
    rates = ("--set", "cdc.head_rate=1e30", "--set", "cdc.backbone_rate=1e30", "--set", "cdc.batch_size=24")
    answer = coterie("fit", images, "-k", 4, "-o", tmp_path / "run", *quick, *rates)
    assert answer.code == 1, answer.err
    assert "Try a lower learning rate" in answer.err.splitlines()[-1]


def test_ctrl_c_stops_cleanly_and_the_run_goes_on_later(coterie, images, quick, tmp_path):
    run = tmp_path / "run"
    epochs = 30
    longer = [word.replace("moco.epochs=1", f"moco.epochs={epochs}") for word in quick]
    arguments = ["fit", str(images), "-k", "10", "-o", str(run), *longer]
    process = forked.start(COTERIE, *arguments)
    history = run / "history.jsonl"
    while not history.exists() or not history.read_text():
        assert process.poll() is None, process.output(2)
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait()
    out, err = process.output(1), process.output(2).decode()
    assert process.returncode == 130
    assert out == b""
    last = err.splitlines()[-1]
    assert last.startswith("coterie: Stopped.")
    assert f"-o {run} --resume" in last
    assert "Traceback" not in err
    assert read(run)["status"] == "stopped"
    assert "This run was stopped" in Path(coterie("report", run, "--json").object["report"]).read_text()
    answer = coterie(*arguments, "--resume", "--json")
    assert answer.code == 0, answer.err
    assert read(run)["status"] == "done"
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["stage"] == "moco"] == list(range(1, epochs + 1))


def test_a_stage_that_ends_by_its_own_rule_says_so(coterie, vectors, tmp_path):
    """Only every so manyth epoch has a line, so that nothing told a reader that 2 of 9 were trained."""
    settings = ("--set", "ae.epochs=2", "--set", "dec.epochs=9", "--set", "dec.tolerance=1", "--no-calibrate")
    fit = (
        "fit",
        vectors,
        "-k",
        3,
        "--method",
        "dec",
        "--set",
        "dec.refresh_every=1",
        *settings,
        "-o",
        tmp_path / "run",
    )
    note = "dec ended after epoch 1 of 9: its own stopping rule held."
    assert note in coterie(*fit).err
    assert note in read_record(tmp_path / "run")["notes"]
    assert coterie(*fit, "--resume").code == 0
    assert read_record(tmp_path / "run")["notes"].count(note) == 1
    history = tmp_path / "run" / "history.jsonl"
    history.write_text("".join(history.read_text().splitlines(keepends=True)[:1]))  # of a copy that was broken off
    assert coterie(*fit, "--resume").code == 0
    assert [text for text in read_record(tmp_path / "run")["notes"] if "stopping rule" in text] == [note]


@pytest.mark.parametrize("ends", [KeyboardInterrupt, RunFailed("It collapsed.", "Try less.")])
def test_a_finished_run_whose_resumption_ends_early_is_done_as_before(coterie, vectors, tmp_path, monkeypatch, ends):
    """Its record said `stopped`, or that it failed and is calibrated, beside the whole answers of before."""
    run, words = tmp_path / "run", ("-k", 3, "--method", "kmeans", "-q", "--json")
    assert coterie("fit", vectors, *words, "-o", run, "--no-calibrate").code == 0
    before = (run / "run.yaml").read_bytes(), (run / "result.parquet").read_bytes()

    def calibrate(model, prepared, watch):
        assert (run / "run.yaml").read_bytes() == before[0]  # also for whom the process is killed here
        raise ends

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "calibrate", calibrate)
        answer = coterie("fit", vectors, *words, "-o", run, "--resume", "--calibrate")
    assert answer.code == (130 if ends is KeyboardInterrupt else 1)
    assert ("is what it was" in answer.err) is (ends is KeyboardInterrupt)
    assert ((run / "run.yaml").read_bytes(), (run / "result.parquet").read_bytes()) == before
    assert coterie("fit", vectors, *words, "-o", run, "--resume", "--calibrate").code == 0
    assert read_record(run)["calibrated"] is True
    assert read_record(run)["status"] == "done"


def test_a_run_that_is_reviewed_while_it_is_calibrated_keeps_its_answers(coterie, vectors, tmp_path, monkeypatch):
    """While it is resumed it is done, so that it can be reviewed: its record would have been of other confidences."""
    run, words = tmp_path / "run", ("-k", 3, "--method", "kmeans", "-q", "--json")
    assert coterie("fit", vectors, *words, "-o", run, "--no-calibrate").code == 0
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    reviewed = []
    monkeypatch.setattr(preparing, "was_reviewed", lambda out: bool(reviewed))
    whole = pipeline.calibrate
    monkeypatch.setattr(pipeline, "calibrate", lambda *given: (reviewed.append(True), whole(*given)))
    answer = coterie("fit", vectors, *words, "-o", run, "--resume", "--calibrate")
    assert answer.code == 2
    assert "was reviewed, and the review is of its confidences" in answer.err
    for name in ("run.yaml", "result.parquet"):
        assert (run / name).read_bytes() == before[name]


@pytest.mark.parametrize("while_", ["usable_labels", "write_report"])
def test_a_run_that_is_stopped_after_its_end_is_done(coterie, vectors, tmp_path, monkeypatch, while_):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"coterie.cli.fit.{while_}", stopped)
    run = tmp_path / "run"
    answer = coterie("fit", vectors, "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", run)
    assert answer.code == 130
    assert f"Stopped. The run is done and kept in {run}; coterie report {run} writes its report." in answer.err
    assert read_record(run)["status"] == "done"


@pytest.mark.parametrize(
    ("command", "folder"), [(("demo",), ""), (("fit", "digits", "--method", "ae", "--runs", 2), "seed-0")]
)
def test_what_a_stopped_command_says_goes_on(coterie, tmp_path, monkeypatch, command, folder):
    """`demo` has --resume, too, and of several runs -o is the folder of all."""
    asked = []

    def stopped(source: object, settings: object, out: Path, *, resume: object, **_: object) -> None:
        asked.append(resume)
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.yaml").write_text("status: stopped\n")
        (out / "checkpoints").mkdir(exist_ok=True)
        (out / "checkpoints" / "moco.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("coterie.cli.fit.run", stopped)
    out = tmp_path / "my runs"
    answer = coterie(*command, "-o", out)
    assert f"kept in {out / folder}: the same command with -o '{out}' --resume goes on." in answer.err
    assert answer.code == 130
    assert f"-o '{out}' --resume goes on." in coterie(*command, "-o", out, "--resume").err
    assert len(asked) == 2
    assert asked[-1]


@pytest.mark.parametrize(
    ("command", "asked", "part"),
    [
        (("embed",), "coterie.cli.embed.embedded", "parts/a-000000.npz"),
        (("predict", "run", "--engine", "local"), "coterie.cli.predict.predict_parts", "part-000000.parquet"),
    ],
)
def test_only_what_is_there_is_said_to_be_kept(coterie, grouped, vectors, tmp_path, monkeypatch, command, asked, part):
    out = tmp_path / "out"

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asked, stopped)
    given = [grouped if word == "run" else word for word in command]
    assert coterie(*given, vectors, "-o", out).err.splitlines()[-1] == "coterie: Stopped."
    (out / part).parent.mkdir(parents=True, exist_ok=True)
    (out / part).touch()
    assert f"is kept in {out}: the same command goes on." in coterie(*given, vectors, "-o", out).err


@pytest.mark.parametrize("start", [("-m", "coterie"), ("-c", "from coterie.__main__ import main; main()")])
def test_ctrl_c_while_the_command_line_is_imported_ends_the_process_without_a_word(tmp_path, start):
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), str(Path(package.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, *start, "methods"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background command has it ignored
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")  # 130 in a shell


def test_the_command_starts_where_ctrl_c_is_heeded():
    from coterie.__main__ import main

    with open(Path(package.__file__).parents[2] / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["scripts"] == {"coterie": f"{main.__module__}:{main.__name__}"}
