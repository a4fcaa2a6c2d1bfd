"""Files of a run that may not be read: every command says which in one sentence, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import coterie
from helpers import forked
from helpers.forked import COTERIE

OPEN = ("fine", "warm")
CLOSED = [
    *("run.yaml", "result.parquet", "metrics.json", "history.jsonl", "map.npz", "model", "model/manifest.json"),
    *("model/weights.safetensors", "model/ood.safetensors", "checkpoints", "report.html", "."),
]
# Every command is run once with all rights, so that everything is imported; then come the rights of somebody else.
SCRIPT = """
import contextlib, io, json, os, sys, traceback
from coterie.cli import main

def answers(name):
    fit = ["fit", "vectors.npy", "-k", "3", "-o", name, "--epochs", "1", "--resume"]
    for command in (
        *(["predict", name, "vectors.npy", "-o", f"out/{name}.parquet"], ["accept", name], ["compare", name, "fine"]),
        *(["report", name], ["evaluate", name, "--labels", "l.csv"], fit),
    ):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(command)
            except BaseException:
                code = traceback.format_exc()
        yield name, command[0], code, err.getvalue()

warm = list(answers("warm"))
assert all(code == 0 for _, _, code, _ in warm), warm
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(json.dumps([answer for name in json.loads(sys.argv[1]) for answer in answers(name)]))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that anyone may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_what_may_not_be_read_is_said_and_nothing_is_lost(grouped: Path, vectors: Path, place: Path) -> None:
    if any(part.stat().st_mode & 0o005 != 0o005 for part in Path(coterie.__file__).parents):
        pytest.skip("somebody without rights cannot read coterie's own files")
    shutil.copy(vectors, place / "vectors.npy")
    (place / "l.csv").write_text("id,label\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    (place / "out").mkdir()
    names: dict[str, str] = {}
    for number, closed in enumerate([*CLOSED, "fine", "warm"]):
        name = closed if closed in OPEN else f"run-{number}"
        shutil.copytree(grouped, place / name)
        (place / name / "metrics.json").write_text("{}\n")
        names[name] = closed
    for path in (place, *place.rglob("*")):
        os.chmod(path, 0o777 if path.is_dir() else 0o666)
    before = {name: digests(place / name) for name in names}
    for name, closed in names.items():
        if closed not in OPEN:
            os.chmod(place / name / closed, 0)
    done = forked.run(SCRIPT, json.dumps([name for name in names if name not in OPEN]), cwd=place)
    assert done.returncode == 0, done.stderr
    needed = {
        "predict": ("run.yaml", "model", "model/manifest.json", "model/weights.safetensors", "model/ood.safetensors"),
        "evaluate": ("run.yaml", "result.parquet", "map.npz", "history.jsonl"),
        "accept": ("run.yaml", "result.parquet", "metrics.json"),
        "report": ("run.yaml", "result.parquet", "metrics.json", "map.npz", "history.jsonl"),
        "fit": ("run.yaml", "history.jsonl", "checkpoints"),
        "compare": (),
    }
    for name, command, code, said in json.loads(done.stdout):
        closed = names[name]
        assert code in (0, 1, 2), f"{command} with {closed} closed: {code}"
        if code:
            line = said.splitlines()[-1]
            assert line.startswith("coterie: ")
            assert "free some space" not in line
            assert closed == "." or Path(closed).name in line or f"{name}/model" in line, (command, closed, line)
        assert code != 0 or (closed not in needed[command] and closed != ".") or command == "compare", (command, closed)
    for name, closed in names.items():
        if closed not in OPEN:
            os.chmod(place / name / closed, 0o777)
        after = digests(place / name)
        if name == "warm":
            continue
        changes = {file for file in before[name] if after.get(file) != before[name][file]}
        assert changes <= {"report.html", "metrics.json", "run.yaml", "result.parquet", "map.npz"}, changes
        assert set(before[name]) <= set(after)


# Somebody without a name or a home folder, as in a container that runs under a number.
NOBODY = "import os; os.environ.pop('HOME', None); os.setgroups([]), os.setgid(54321), os.setuid(54321)\n" + COTERIE


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_user_without_a_home_folder(place: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "COTERIE_DATA"}
    listed = forked.run(NOBODY, "encoders", cwd=place, env=env)
    assert listed.returncode == 0, listed.stderr
    answer = forked.run(NOBODY, "fit", "fashion-mnist", "-k", 10, cwd=place, env=env)
    assert answer.returncode == 2
    assert b"no home folder" in answer.stderr
    assert b"set COTERIE_DATA" in answer.stderr


def test_a_run_that_may_not_be_written_is_measured(grouped: Path, vectors: Path, place: Path) -> None:
    run = place / "run"
    shutil.copytree(grouped, run)
    shutil.copy(vectors, place / "vectors.npy")
    (place / "l.csv").write_text("id,label\n" + "".join(f"{row},{row % 3}\n" for row in range(60)))
    for path in (run, *run.rglob("*"), place / "vectors.npy", place / "l.csv"):
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
    before = digests(run)
    program = NOBODY if os.getuid() == 0 else COTERIE
    answer = forked.run(program, "evaluate", run, "--labels", "l.csv", "--ood", "vectors.npy", cwd=place)
    assert answer.returncode == 0, answer.stderr
    assert b"ACC" in answer.stdout.upper()
    assert b"60 fitted items against 60" in answer.stdout
    assert b"All numbers" not in answer.stdout
    assert answer.stderr.decode().count(f"{run} may not be written: these numbers are printed and not kept.") == 1
    assert digests(run) == before
    for path in (run, *run.rglob("*")):
        os.chmod(path, 0o777)
