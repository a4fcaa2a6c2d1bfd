"""The command on consoles of any encoding, on closed and full streams, with names in no encoding, and under signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

COTERIE = [sys.executable, "-m", "coterie"]
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


def call(*arguments: object, env: dict[str, str] | None = None, shell: str = "") -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own; `shell` is what follows it on a command line."""
    words = [*COTERIE, *map(str, arguments)]
    environment = {**os.environ, **(env or {})}
    if shell:
        line = ["sh", "-c", f'exec "$@" {shell}', "sh", *words]
        return subprocess.run(line, capture_output=True, env=environment, check=False)
    return subprocess.run(words, capture_output=True, env=environment, check=False)


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
    answer = subprocess.run(
        [sys.executable, "-c", ALL, *words], capture_output=True, env={**os.environ, **CONSOLES[console]}, check=False
    )
    assert (answer.returncode, b"Traceback" in answer.stderr) == (0, False), answer.stderr
    codes = [int(line.removeprefix(b"code ")) for line in answer.stdout.splitlines() if line.startswith(b"code ")]
    assert codes == list(commands.values()), answer.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_closed_full_and_broken_streams(arguments: tuple[str, ...]) -> None:
    closed = call(*arguments, shell=">&-")
    assert (closed.returncode, closed.stderr) == (0, b"")
    both = call(*arguments, shell=">&- 2>&- <&-")
    assert both.returncode == 0
    full = call(*arguments, shell=">/dev/full")
    assert full.returncode == 1
    assert full.stderr == b"coterie: Standard output cannot be written: [Errno 28] No space left on device.\n"
    silent = call(*arguments, shell=">/dev/full 2>/dev/full")
    assert silent.returncode == 1
    gone = subprocess.run(
        ["bash", "-c", '"$@" | true; echo ${PIPESTATUS[0]}', "bash", *COTERIE, *arguments],
        capture_output=True,
        check=False,
    )
    assert gone.stderr == b""


def test_results_of_a_command_that_cannot_be_printed() -> None:
    assert call("methods", shell=">&-").returncode == 0
    full = call("methods", "cdc", "--json", shell=">/dev/full")
    assert (full.returncode, full.stderr.count(b"\n")) == (1, 1)


def test_remarks_never_go_to_the_results_nor_end_a_run(vectors: Path, tmp_path: Path) -> None:
    wrong = call("fit", "nowhere", "-k", 3, shell="2>&-")
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    deaf = call("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "a", "--json", shell="2>/dev/full")
    assert deaf.returncode == 0
    assert json.loads(deaf.stdout)["n"] == 60
    mute = call("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "b", shell=">/dev/full")
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
    arguments = ["fit", str(vectors), "-k", "3", "--epochs", "20000", "-o", str(run)]

    def heed() -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)

    with subprocess.Popen([*COTERIE, *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        history = run / "history.jsonl"
        while not history.exists() or not history.read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        err = process.communicate()[1]
    assert process.returncode == 128 + number
    assert "What was done is kept" in err.splitlines()[-1]
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "stopped"
    assert (run / "checkpoints" / "cdc.safetensors").exists()


def test_what_nobody_foresaw_is_one_sentence(vectors: Path, tmp_path: Path) -> None:
    script = "import sys, coterie.pipeline as p; from coterie.cli import main\n"
    script += "def fail(*a, **k): raise KeyError('surprise')\np.make_bank = fail; sys.exit(main())"
    words = [sys.executable, "-c", script, "fit", str(vectors), "-k", "3", "--epochs", "1", "-o", str(tmp_path / "run")]
    answer = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "COTERIE_DEBUG": "0"}, check=False
    )
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "KeyError: 'surprise'" in answer.stderr.splitlines()[-1]
    assert "surprise" in (tmp_path / "run" / "traceback.txt").read_text()
    loud = subprocess.run([*words[:-1], str(tmp_path / "b")], capture_output=True, text=True, check=False)
    assert "Traceback" in loud.stderr


def test_too_little_memory_is_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((200, 8), np.float32) + np.arange(200)[:, None])
    script = "import sys, coterie.pipeline as p; from coterie.cli import main\n"
    script += "def fail(*a, **k): import numpy; numpy.ones(2**50)\np.make_bank = fail; sys.exit(main())"
    words = [sys.executable, "-c", script, "fit", str(tmp_path / "x.npy"), "-k", "3", "--epochs", "1"]
    answer = subprocess.run([*words, "-o", str(tmp_path / "run")], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("coterie: There is not enough memory")
    assert "--resume" in last
