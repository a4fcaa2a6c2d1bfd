"""What a command says on standard error: bars in a terminal, lines elsewhere, more or less of it, what to do next."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
from rich.console import Console

from coterie.cli import main, progress
from coterie.cli.commands import app
from coterie.cli.progress import StageBar
from coterie.training.history import EpochRecord

GROUP: Any = typer.main.get_command(app)
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|9\d|38)[;m]")


def in_a_terminal(*words: object) -> str:
    """What a command writes on standard error where that is a terminal; standard output is none."""
    master, slave = os.openpty()
    seen: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(master, 1 << 16):
                seen.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with (
        open(slave, "w", encoding="utf-8") as terminal,
        contextlib.redirect_stderr(terminal),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = main([str(word) for word in words])
    reader.join()
    os.close(master)
    assert code == 0, b"".join(seen)
    return b"".join(seen).decode()


@pytest.mark.parametrize(
    ("environment", "bar", "colours"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_a_terminal_shows_a_bar(vectors, tmp_path, monkeypatch, environment, bar, colours):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = in_a_terminal("fit", vectors, "-k", 3, "--epochs", 2, "-o", tmp_path / "run")
    assert ("━" in said) == bar
    assert (re.search(r"cdc +.*2/2.*left.*0:00:00", said) is not None) == bar
    assert ("cdc epoch 2/2" in said) != bar
    assert (COLOUR.search(said) is not None) == colours
    assert bar or "\x1b" not in said


def record(epoch: int, epochs: int) -> EpochRecord:
    return EpochRecord("moco", epoch, epochs, {"contrast": 1.5}, {}, 2.0, 100.0)


@pytest.mark.parametrize(("verbose", "lines"), [(False, 20), (True, 100)])
def test_without_a_terminal_there_are_about_twenty_lines_a_stage_unless_more_are_asked_for(verbose, lines):
    out = io.StringIO()
    with StageBar(Console(file=out, width=200), quiet=False, verbose=verbose) as bar:
        bar.begin("moco", 100, 1, 0)
        for epoch in range(1, 101):
            bar.epoch(record(epoch, 100))
    said = out.getvalue().splitlines()
    assert sum(line.startswith("moco epoch ") for line in said) == lines
    assert said[-1] == "moco epoch 100/100: contrast 1.500" + ("  2.0 s" if verbose else "")


def test_long_work_on_items_is_a_line_each_half_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with StageBar(Console(file=out, width=200), quiet=False) as bar:
        bar.items = 1000
        for done in range(1, 101):
            now[0] += 1.0
            bar.reading("embedding", done, 100)
            bar.predicted(10)
    said = out.getvalue().splitlines()
    assert said[0] == "embedding: 31 of 100, about 1 min 7 s left"
    assert [line.split(":")[0] for line in said] == 3 * ["embedding", "predict"]


def suggested(err: str) -> list[list[str]]:
    """The words of each command that is named at the end, without `coterie`."""
    lines = err[err.index("Next: ") :].splitlines()
    found = [shlex.split(line.removeprefix("Next:"), comments=True) for line in lines]
    assert all(words[0] == "coterie" for words in found)
    return [words[1:] for words in found]


@pytest.mark.parametrize(
    ("words", "following"),
    [
        (("report", "RUN"), ["review"]),
        (("accept", "RUN"), ["accept --draw"]),
        (("accept", "RUN", "--max-error", 0.1), ["accept --draw"]),
        (("accept", "RUN", "--draw", 60, "-o", "sample.csv"), ["accept"]),  # enough for a bound
        (("accept", "RUN", "--draw", 60, "-o", "a.csv", "--max-error", 0.125, "--confidence-level", 0.9), ["accept"]),
        (("accept", "RUN", "--judged", "judged.csv", "--max-error", 0.625, "--confidence-level", 0.75), ["accept"]),
        (("recalibrate", "RUN", "--judged", "judged.csv"), ["accept"]),
        (("compare", "RUN"), ["compare"]),
        (("evaluate", "RUN", "--labels", "labels.csv"), ["compare"]),
        (("choose-k", "DATA", "--most", 4), ["fit"]),
        (("choose-k", "TABLE.parquet", "--most", 3, "--columns", "f0..f3"), ["fit"]),
        (("methods",), ["methods"]),
        (("methods", "cdc"), ["fit"]),
        (("encoders",), ["embed"]),
        (
            ("fit", "DATA", "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", "new"),
            ["review", "accept --draw", "predict"],  # `accept` alone refuses what is not calibrated
        ),
    ],
)
def test_the_next_command_is_named_and_could_be_typed(
    coterie, grouped, vectors, tmp_path, monkeypatch, words, following
):
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("id,label\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    Path("judged.csv").write_text("id,right\n" + "".join(f"{row},{row % 3 > 0}\n" for row in range(60)))
    if "RUN" in words:
        shutil.copytree(grouped, "RUN")
    if "TABLE.parquet" in words:
        columns = {f"f{number}": column for number, column in enumerate(np.load(vectors).T)}
        pq.write_table(pa.table(columns), "TABLE.parquet")
    answer = coterie(*(vectors if word == "DATA" else word for word in words))
    assert answer.code == 0, answer.err
    named = suggested(answer.err)
    assert [command + " --draw" * ("--draw" in rest) for command, *rest in named] == following
    for command, *rest in named:
        for option in set(words) & {
            "--columns",
            "--max-error",
            "--confidence-level",
        }:  # the same items, the same promise
            assert rest[rest.index(option) + 1] == str(words[words.index(option) + 1])
        GROUP.commands[command].make_context(command, rest)  # raises for what the command does not take
    assert "Next: " not in answer.out


def test_more_and_less_at_once_cannot_be(coterie, vectors):
    answer = coterie("fit", vectors, "-k", 3, "-q", "-v")
    assert answer.code == 2
    assert "leave one of them out" in answer.err


def test_a_rank_of_the_users_own_silences_nothing(coterie, vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    run = tmp_path / "run"
    answer = coterie("fit", vectors, "-k", 3, "--method", "kmeans", "--no-calibrate", "-o", run)
    assert answer.code == 0
    assert "Report: " in answer.out
    assert (run / "report.html").exists()


def test_a_run_whose_name_begins_with_a_dash_is_named_as_it_can_be_typed(coterie, grouped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(grouped, "-run")
    answer = coterie("report", "--", "-run")
    assert suggested(answer.err) == [["review", "./-run"]]
