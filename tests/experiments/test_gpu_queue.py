"""The queue of runs for a card: order, what waits, what fails, what is stopped; its state goes on elsewhere."""

import os
import sys
import time
from pathlib import Path

import gpu_queue
import pytest
from gpu_queue import FILE_BYTES, Job, Worker, pack, unpack, work_off

SCRIPT = """
import sys, time, pathlib
name, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
pathlib.Path(name + ".begun").touch()
time.sleep(seconds)
pathlib.Path(name + ".ended").touch()
sys.exit(code)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "work.py").write_text(SCRIPT)
    monkeypatch.setattr(gpu_queue, "HERE", tmp_path / "scripts")
    monkeypatch.setattr(gpu_queue, "GRACE", 1)
    folder = tmp_path / "work"
    folder.mkdir()
    return Worker(folder, dict(os.environ), at_once=2)


def job(name, seconds=0.0, code=0, after=()):
    return Job(name, f"work.py {name} {seconds} {code}", after)


def test_jobs_wait_for_those_before_them_and_end_with_a_failed_one(worker, capsys):
    jobs = [job("a"), job("b", after=("a",)), job("bad", code=3), job("never", after=("bad",))]
    assert work_off(jobs, worker, time.monotonic() + 60) == []
    assert worker.ended == {"a": 0, "b": 0, "bad": 3}
    assert not (worker.folder / "never.begun").exists()
    assert "bad: failed with 3" in capsys.readouterr().out


def test_what_does_not_end_in_time_is_stopped_and_named(worker):
    jobs = [job("long", 600.0), job("after", after=("long",))]
    assert work_off(jobs, worker, time.monotonic() + 3) == ["long", "after"]
    assert (worker.folder / "long.begun").exists()
    assert not (worker.folder / "long.ended").exists()


def test_the_state_goes_on_elsewhere(tmp_path):
    work, state, other = tmp_path / "work", tmp_path / "state", tmp_path / "other"
    for name, size in (("one", 1000), ("two", 1000), ("huge", FILE_BYTES)):
        folder = work / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.yaml").write_text(name)
        (folder / "table.bin").write_bytes(os.urandom(size))
    assert pack(work, state, ["**/table.bin"]) == ["runs/huge/table.bin"]
    assert all(path.stat().st_size < FILE_BYTES for path in state.iterdir())
    unpack(state, other)
    assert sorted(path.parent.name for path in other.rglob("run.yaml")) == ["huge", "one", "two"]
    for name in ("one", "two"):
        same = [(root / "runs" / name / "table.bin").read_bytes() for root in (work, other)]
        assert same[0] == same[1]
    assert not (other / "runs" / "huge" / "table.bin").exists()


def test_the_files_named_first_are_packed_first(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_queue, "FILE_BYTES", 25_000)
    monkeypatch.setattr(gpu_queue, "FILES", 2)
    for name in ("a", "b"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "model.bin").write_bytes(os.urandom(10_000))
    assert pack(tmp_path / "work", tmp_path / "state", ["b/*", "**/model.bin"]) == ["a/model.bin"]


NAMES = ["claim", "grey", "cdc", "pica", "board-cdc", "board-cdc13", "board-pica", "board-rdc", "board-cifar", "frozen"]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_that_its_script_takes(name, capsys, monkeypatch):
    """Jobs are listed with scripts that are there; a name stands once; each waits for one that is in the queue."""
    monkeypatch.setattr(sys, "argv", ["gpu_queue.py", name, "--list"])
    gpu_queue.main()
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition(":")[0] for line in lines]
    assert len(set(names)) == len(names) > 0
    for line in lines:
        script = line.partition("python ")[2].split()[0]
        assert (Path(gpu_queue.__file__).parents[1] / script).is_file()
