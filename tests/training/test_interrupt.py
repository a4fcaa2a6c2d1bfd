"""A run that is stopped keeps what it did, and goes on as if it had not been stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from coterie import Clusterer
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.running.prepared import Watch
from coterie.training.interrupt import Stopped, between_steps, heed_signals
from coterie.training.plan import RunSettings
from helpers import forked
from helpers.small_runs import narrow_where_pretrained

X = np.random.default_rng(3).normal(size=(60, 6)).astype(np.float32) + np.repeat(np.eye(6)[:3], 20, 0) * 6
PIXELS = np.random.default_rng(4).integers(0, 256, (32, 8, 8), dtype=np.uint8)
SMALL = {"moco.epochs": 2, "moco.batch_size": 8, "moco.queue": 16, "moco.projector_hidden": 16}
STEPS = {"batch_size": 20}

AE, ACAI, CALIBRATE = {"ae.epochs": 2}, {"acai.epochs": 2}, {"calibrate.epochs": 6}

RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "cdc": (X, {"method": "cdc", "epochs": 3, "calibrate": True, "overrides": {**STEPS, **CALIBRATE}}),
    "cdc of images": (PIXELS, {"method": "cdc", "epochs": 2, "backbone": "small-8", "overrides": SMALL}),
    "dec": (X, {"method": "dec", "epochs": 2, "overrides": {**AE, **CALIBRATE}}),
    "vade": (X, {"method": "vade", "epochs": 2, "overrides": {**AE, **CALIBRATE}}),
    "rdc": (X, {"method": "rdc", "epochs": 2, "overrides": {**ACAI, **CALIBRATE}}),
}


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which a suite that runs in the background has not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Bell:
    """Looks on as a progress bar does, and sends a signal after so many steps of the run."""

    def __init__(self, after: int, number: int = signal.SIGINT) -> None:
        self.after, self.number, self.steps = after, number, 0

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None: ...

    def step(self, losses: dict[str, float] | None) -> None:
        self.steps += 1
        if self.steps == self.after:
            os.kill(os.getpid(), self.number)

    def epoch(self, record: Any) -> None: ...


def settings_of(name: str) -> tuple[Any, RunSettings]:
    data, given = RUNS[name]
    return data, RunSettings(n_clusters=3, device="cpu", **given)


def table(out: Path) -> list[np.ndarray]:
    result = read_result(out / "result.parquet")
    return [result.labels, *result.heads.values()]


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_goes_on_where_it_was_bit_for_bit(name: str, tmp_path: Path) -> None:
    data, settings = settings_of(name)
    with narrow_where_pretrained(settings.method, "embeddings"):
        counter = Bell(0)
        run(data, settings, tmp_path / "whole", watch=Watch(progress=counter))
        for part in (0.0, 0.8, 1.0):
            out, bell = tmp_path / f"{part}", Bell(max(1, round(part * counter.steps)))
            with pytest.raises(KeyboardInterrupt):
                run(data, settings, out, watch=Watch(progress=bell))
            assert bell.steps == bell.after  # the step that was on is the last
            record = yaml.safe_load((out / "run.yaml").read_text())
            assert record["status"] == "stopped"
            assert list((out / "checkpoints").glob("*.safetensors"))
            rest = Bell(0)
            run(data, settings, out, resume=True, watch=Watch(progress=rest))
            assert bell.steps + rest.steps == counter.steps
            for one, other in zip(table(tmp_path / "whole"), table(out), strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_run_stopped_while_it_predicts_has_its_training(tmp_path: Path) -> None:
    data, settings = settings_of("cdc")

    def ring(count: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(data, settings, tmp_path / "run", watch=Watch(predicted=ring))
    again = Bell(0)
    run(data, settings, tmp_path / "run", resume=True, watch=Watch(progress=again))
    assert again.steps == 0


def test_ctrl_c_in_python_keeps_a_checkpoint_where_there_is_a_folder(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    stopping = Clusterer(3, epochs=100_000, random_state=0, output=tmp_path / "run")
    ended = threading.Event()

    def when_training() -> None:
        history = tmp_path / "run" / "history.jsonl"
        while not history.exists() or not history.stat().st_size:
            if ended.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=when_training)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            stopping.fit(X)
    finally:
        ended.set()
        timer.join()
    assert (tmp_path / "run" / "checkpoints" / "cdc.safetensors").exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def test_another_thread_can_fit() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(Clusterer(3, epochs=1, random_state=0).fit(X).labels_))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], Clusterer(3, epochs=1, random_state=0).fit(X).labels_)


def test_a_first_signal_waits_for_the_step_and_a_second_does_not() -> None:
    def stopped_twice() -> None:
        with heed_signals(), between_steps() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.asked == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("a second signal stops at once")

    with pytest.raises(Stopped) as caught:
        stopped_twice()
    assert caught.value.again


SCRIPT = """
import sys, numpy as np
from coterie import Clusterer
Clusterer(3, epochs=100_000, random_state=0, output=sys.argv[1]).fit(np.load(sys.argv[2]))
"""


def test_sigterm_ends_a_python_process_as_it_would_but_after_a_checkpoint(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    history = tmp_path / "run" / "history.jsonl"
    process = forked.start(SCRIPT, tmp_path / "run", tmp_path / "x.npy")
    while not history.exists() or not history.stat().st_size:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert process.returncode == -signal.SIGTERM
    assert (tmp_path / "run" / "checkpoints" / "cdc.safetensors").exists()
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["status"] == "stopped"


def test_handlers_of_others_are_left_to_them() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with heed_signals():
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), RuntimeError("can't start new thread"), OSError(5, "broken")]
)
def test_what_goes_wrong_between_two_steps_takes_nothing_away(error: Exception, tmp_path: Path) -> None:
    class Breaking(Bell):
        def step(self, losses: dict[str, float] | None) -> None:
            self.steps += 1
            if self.steps == self.after:
                raise error

    data, settings = settings_of("cdc")
    with pytest.raises(type(error)):
        run(data, settings, tmp_path / "run", watch=Watch(progress=Breaking(4)))
    record = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
    assert record["status"] == "failed"
    whole, rest = Bell(0), Bell(0)
    run(data, settings, tmp_path / "run", resume=True, watch=Watch(progress=rest))
    run(data, settings, tmp_path / "whole", watch=Watch(progress=whole))
    assert rest.steps == whole.steps - 4
