"""The launchers of several processes: what they start, and what they only say that they start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.training import device
from coterie.training.device import accelerator_for
from coterie.training.plan import RunSettings
from coterie.types import InputError
from helpers import forked
from helpers.ports import free_port


def test_one_process_in_place_of_several_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch --cpu --num_processes 2` starts it."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert accelerator_for("cpu").num_processes == 1
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(InputError, match="started one: without cards it needs --multi_gpu"):
        accelerator_for("cpu")


def test_a_number_of_processes_without_a_place_to_meet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="WORLD_SIZE is 2 in the environment, but RANK or MASTER_ADDR is missing"):
        accelerator_for("cpu")


@pytest.mark.parametrize("host", ["no host", 64 * "x"])
def test_a_machine_to_meet_at_that_cannot_be_found_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, torch looked for it half an hour, and heeded no signal."""
    monkeypatch.setattr("coterie.training.device.PATIENCE", 0)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_ADDR", host)):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"to meet cannot be found .MASTER_ADDR is '{host}': .*reach"):
        accelerator_for("cpu")


def test_where_nobody_listens_is_said_and_refused_in_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, torch waited half an hour without a word, and heeded no signal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(device, "WORD", 0)
        monkeypatch.setattr(device, "LONGEST_WAIT", 0.5)
        with pytest.raises(InputError, match=f"Nobody listens .*127.0.0.1, port {port}.*RANK 0"):
            accelerator_for("cpu")
        assert capsys.readouterr().err.count(f"waiting at 127.0.0.1, port {port} for the process with RANK 0") == 1
        free.listen()
        device._check_listening("127.0.0.1", port, "1")


def test_the_first_process_says_that_it_waits_for_others() -> None:
    script = "from coterie.training import device; device.WORD = 0.2; device.accelerator_for('cpu')"
    port = str(free_port())
    env = {**os.environ, "WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    waiting = forked.start(script, env=env)
    try:
        while b"\n" not in waiting.output(2).partition(b"coterie:")[2]:
            assert waiting.poll() is None, waiting.output(2)
            time.sleep(0.01)
        said = b"coterie:" + waiting.output(2).partition(b"coterie:")[2]
        assert said.startswith(f"coterie: waiting at 127.0.0.1, port {port} for all processes".encode())
    finally:
        waiting.send_signal(signal.SIGKILL)
        waiting.wait()


def test_processes_of_mpi_without_an_address_are_refused() -> None:
    script = "from coterie.training.device import accelerator_for; accelerator_for('cpu')"
    answer = forked.run(script, env={**os.environ, "PMI_SIZE": "2", "PMI_RANK": "1"})
    assert b"InputError: Several processes were started, by PMI_SIZE in" in answer.stderr
    assert b"give them MASTER_ADDR" in answer.stderr


@pytest.mark.slow
def test_two_processes_of_accelerate_launch_share_a_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = (3 * rng.normal(size=(3, 8))[np.arange(60) % 3] + rng.normal(size=(60, 8))).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    port = free_port()  # an older accelerate does not look for one itself
    launcher = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", 2, "--main_process_port", port)
    fit = ("fit", tmp_path / "rows.npy", "-k", 3, "--epochs", 1, "--device", "cpu", "-q", "-o", tmp_path / "two")
    command = [sys.executable, "-m", *launcher, "--num_machines", 1, "-m", "coterie", *fit]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert yaml.safe_load((tmp_path / "two" / "run.yaml").read_text())["processes"] == 2
    one = run(str(tmp_path / "rows.npy"), RunSettings(n_clusters=3, epochs=1, device="cpu"), tmp_path / "one")
    two = read_result(tmp_path / "two" / "result.parquet")
    assert np.array_equal(two.labels, one.assignments.probabilities.argmax(1).numpy())
