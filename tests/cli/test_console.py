"""The command on consoles of any encoding, on closed and full streams, with names in no encoding, and under signals."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from PIL import Image

from coterie.cli import main
from helpers import forked
from helpers.forked import CLOSED, COTERIE

FULL = "/dev/full"  # a disk that is
ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
# Every command of the command line in one process: words up to each semicolon.
ALL = """
import sys
from coterie.cli import main
words = sys.argv[1:]
while words:
    end = words.index(";")
    print("code", main(words[:end]))
    words = words[end + 1:]
"""
CONSOLES = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "C locale": ASCII,
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


def call(*arguments: object, env: dict[str, str] | None = None, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own; `streams` are files, or CLOSED."""
    with contextlib.ExitStack() as stack:
        given = {n: stack.enter_context(open(FULL, "wb")) if to == FULL else to for n, to in streams.items()}
        return forked.run(COTERIE, *arguments, env={**os.environ, **(env or {})}, **given)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over pictures whose names no console but UTF-8's can show, or none at all."""
    base = tmp_path_factory.mktemp("odd")
    photos = os.fsencode(base) + b"/caf\xe9 \xe5\xa3\x8a"
    os.mkdir(photos)
    for row in range(12):
        pixels = np.random.default_rng(row).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(base / "x.png")
        os.rename(base / "x.png", photos + f"/壊{row} →".encode() + b"\xff.png")
    with open(photos + "/壊れた.png".encode(), "w") as file:
        file.write("no image")
    quick = ("--backbone", "small-8", "--set", "moco.epochs=1", "--epochs", 1, "--device", "cpu")
    out = os.fsdecode(os.fsencode(base) + b"/r\xe9")
    answer = call("fit", os.fsdecode(photos), "-k", 3, *quick, "-o", out, env={"PYTHONIOENCODING": "cp1252"})
    assert answer.returncode == 0, answer.stderr
    assert b"Report:" in answer.stdout
    assert b"\\u58ca\\u308c\\u305f.png" in answer.stdout
    return Path(out)


def test_names_in_no_encoding_are_escaped_everywhere(odd: Path) -> None:
    record = yaml.safe_load((odd / "run.yaml").read_text(encoding="utf-8"))
    assert record["source"]["name"] == "caf\\xe9 壊"
    page = (odd / "report.html").read_text(encoding="utf-8")
    assert "caf\\xe9 壊" in page
    assert "壊0 →\\xff.png" in page


@pytest.mark.parametrize("console", CONSOLES)
def test_every_command_speaks_to_every_console(odd: Path, console: str, tmp_path: Path) -> None:
    photos = os.fsdecode(os.fsencode(odd.parent) + b"/caf\xe9 \xe5\xa3\x8a")
    new = os.fsdecode(os.fsencode(tmp_path) + b"/\xfcber.parquet")
    commands = {
        ("report", odd): 0,
        ("predict", odd, photos, "-o", new): 0,
        ("predict", odd, photos, "-o", new, "--json"): 0,
        ("accept", odd, "-o", tmp_path / "übrig.csv", "--max-error", 0.9): 0,
        ("compare", odd, "-o", tmp_path / "sïde.html"): 0,
        ("fit", photos, "-k", 3, "--dry-run"): 0,
        ("fit", photos + "nowhere", "-k", 3): 2,
        ("methods",): 0,
    }
    words = [str(word) for command in commands for word in (*command, ";")]
    env = {**os.environ, **CONSOLES[console]}
    if console == "C locale":  # which an interpreter asks for before anything else
        answer = subprocess.run([sys.executable, "-c", ALL, *words], capture_output=True, env=env, check=False)
    else:
        answer = forked.run(ALL, *words, env=env)
    assert (answer.returncode, b"Traceback" in answer.stderr) == (0, False), answer.stderr
    codes = [int(line.removeprefix(b"code ")) for line in answer.stdout.splitlines() if line.startswith(b"code ")]
    assert codes == list(commands.values()), answer.stderr


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_closed_full_and_broken_streams(argument: str) -> None:
    def said(streams: str) -> subprocess.CompletedProcess[bytes]:
        line = f"{sys.executable} -m coterie {argument} {streams}"
        return subprocess.run(["bash", "-c", line], capture_output=True, check=False)

    closed = said(">&-")
    assert (closed.returncode, closed.stderr) == (0, b"")
    both = said(">&- 2>&- <&-")
    assert both.returncode == 0
    full = said(">/dev/full")
    assert full.returncode == 1
    assert full.stderr == b"coterie: Standard output cannot be written: [Errno 28] No space left on device.\n"
    silent = said(">/dev/full 2>/dev/full")
    assert silent.returncode == 1
    assert said("| true; echo ${PIPESTATUS[0]}").stderr == b""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_that_closed_its_streams_may_call_the_command(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, stream, closed)
    assert (main(["methods", "kmeans"]), main(["methods", "nope"])) == (0, 2)


@pytest.mark.parametrize("buffered", [True, False])  # PYTHONUNBUFFERED, as in many containers
def test_results_that_were_printed_in_part_are_not_called_printed(buffered: bool, monkeypatch, capsys) -> None:
    """A pipe that another program made one that does not wait takes as much as it has room for."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with open(read, "rb") as _, open(write, "wb", buffering=-1 if buffered else 0) as file:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(cast(Any, file), "utf-8", write_through=not buffered))
        with contextlib.suppress(BlockingIOError):
            while os.write(write, b"x" * 4096):
                pass
        os.read(read, 4096)
        assert main(["methods", "--json"]) == 1
    assert "coterie: Standard output cannot be written" in capsys.readouterr().err


def test_results_of_a_command_that_cannot_be_printed() -> None:
    assert call("methods", stdout=CLOSED).returncode == 0
    full = call("methods", "cdc", "--json", stdout=FULL)
    assert (full.returncode, full.stderr.count(b"\n")) == (1, 1)


def test_remarks_never_go_to_the_results_nor_end_a_run(vectors: Path, tmp_path: Path) -> None:
    wrong = call("fit", "nowhere", "-k", 3, stderr=CLOSED)
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    deaf = call("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "a", "--json", stderr=FULL)
    assert deaf.returncode == 0
    assert json.loads(deaf.stdout)["n"] == 60
    mute = call("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "b", stdout=FULL)
    assert mute.returncode == 1
    assert (tmp_path / "b" / "report.html").exists()
    assert yaml.safe_load((tmp_path / "b" / "run.yaml").read_text(encoding="utf-8"))["status"] == "done"


def test_a_report_that_fails_loses_nothing(coterie, vectors: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(run: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(import_module("coterie.cli.fit"), "write_report", fail)
    answer = coterie("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "run")
    assert answer.code == 1
    said = answer.err.splitlines()[-1]
    assert "The run is done" in said
    assert f"coterie report {tmp_path / 'run'}" in said
    monkeypatch.undo()
    assert coterie("report", tmp_path / "run").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_what_was_done(number: signal.Signals, vectors: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = forked.start(COTERIE, "fit", vectors, "-k", 3, "--epochs", 20000, "-o", run)
    history = run / "history.jsonl"
    while not history.exists() or not history.read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.wait()
    err = process.output(2).decode()
    assert process.returncode == 128 + number
    assert "What was done is kept" in err.splitlines()[-1]
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "stopped"
    assert (run / "checkpoints" / "cdc.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_work_begins_has_its_own_exit_code(number: signal.Signals) -> None:
    script = "import os, sys\nfrom coterie.cli import app, main\n"
    script += f"@app.command()\ndef ask() -> None: os.kill(os.getpid(), {int(number)})\nsys.exit(main())"
    assert forked.run(script, "ask").returncode == 128 + number


def test_what_nobody_foresaw_is_one_sentence(vectors: Path, tmp_path: Path) -> None:
    script = "import sys, coterie.pipeline as p; from coterie.cli import main\n"
    script += "def fail(*a, **k): raise KeyError('surprise')\np.make_bank = fail; sys.exit(main())"
    words = ["fit", vectors, "-k", 3, "--epochs", 1, "-o"]
    answer = forked.run(script, *words, tmp_path / "run", env=os.environ | {"COTERIE_DEBUG": "0"})
    assert answer.returncode == 1
    assert b"Traceback" not in answer.stderr
    assert b"KeyError: 'surprise'" in answer.stderr.splitlines()[-1]
    assert "surprise" in (tmp_path / "run" / "traceback.txt").read_text()
    loud = forked.run(script, *words, tmp_path / "b")
    assert b"Traceback" in loud.stderr


def test_too_little_memory_is_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((200, 8), np.float32) + np.arange(200)[:, None])
    script = "import sys, coterie.pipeline as p; from coterie.cli import main\n"
    script += "def fail(*a, **k): import numpy; numpy.ones(2**50)\np.make_bank = fail; sys.exit(main())"
    answer = forked.run(script, "fit", tmp_path / "x.npy", "-k", 3, "--epochs", 1, "-o", tmp_path / "run")
    assert answer.returncode == 1
    last = answer.stderr.decode().splitlines()[-1]
    assert last.startswith("coterie: There is not enough memory")
    assert "--resume" in last
