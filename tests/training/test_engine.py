"""The training loop as a run sees it: seeds, stops at any place, resumption, failures."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from coterie.pipeline import RunResult, run
from coterie.records import read_record
from coterie.running.prepared import Watch
from coterie.training.history import read_history
from coterie.training.plan import RunSettings
from coterie.types import InputError, RunFailed, Source
from helpers import forked
from helpers.stopping import StopAfter

SETTINGS = RunSettings(
    n_clusters=4,
    backbone="small-4",
    family="glyph",
    device="cpu",
    overrides={
        "moco.epochs": 2,
        "moco.batch_size": 24,
        "moco.queue": 48,
        "cdc.epochs": 2,
        "cdc.batch_size": 48,
        "cdc.sub_batch": 16,
        "cdc.cells": 6,
        "cdc.hidden": 12,
    },
    checkpoint_seconds=0.0,
)
STEPS = 2 * 4 + 2 * 2  # batches of both stages


def state(result: RunResult) -> dict[str, torch.Tensor]:
    return result.model.net.state_dict()


def same_result(one: RunResult, other: RunResult) -> None:
    assert torch.equal(one.assignments.probabilities, other.assignments.probabilities)
    for name, value in state(one).items():
        assert torch.equal(value, state(other)[name]), name


@pytest.fixture(scope="module")
def whole(digits: Source) -> RunResult:
    """A run in memory that nothing stopped."""
    return run(digits.items.array, SETTINGS)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(digits: Source, whole: RunResult) -> None:
    again = run(digits.items.array, SETTINGS)
    same_result(whole, again)
    assert [r.losses for r in whole.history.records] == [r.losses for r in again.history.records]
    other = run(digits.items.array, replace(SETTINGS, seed=1))
    assert not torch.equal(whole.assignments.probabilities, other.assignments.probabilities)


def test_the_history_has_every_epoch_of_every_stage(whole: RunResult) -> None:
    seen = [(r.stage, r.epoch, r.epochs) for r in whole.history.records]
    assert seen == [("moco", 1, 2), ("moco", 2, 2), ("cdc", 1, 2), ("cdc", 2, 2)]
    assert set(whole.history.records[0].losses) == {"contrast"}
    assert set(whole.history.records[-1].losses) == {"cluster", "calibrate", "entropy"}
    assert {"groups_used", "largest_share", "selected"} <= set(whole.history.records[-1].health)


@pytest.mark.parametrize(
    ("after", "resumes_at"),
    [(1, ("moco", 1)), (6, ("moco", 6)), (8, ("moco", 7)), (10, ("cdc", 1)), (STEPS, ("cdc", 3))],
)
def test_a_run_that_was_stopped_anywhere_and_resumed_is_the_run_that_was_not(
    after: int, resumes_at: tuple[str, int], digits: Source, whole: RunResult, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(digits.items.array, SETTINGS, out, watch=Watch(progress=StopAfter(after)))
    assert read_record(out)["status"] == "stopped"
    second = StopAfter(0)
    resumed = run(digits.items.array, SETTINGS, out, resume=True, watch=Watch(progress=second))
    stage, _, done = second.begun[0]
    assert (stage, done) == resumes_at  # it did not begin again
    same_result(whole, resumed)
    assert read_record(out)["status"] == "done"
    expected = [(r.stage, r.epoch) for r in whole.history.records]
    assert [(r.stage, r.epoch) for r in read_history(out / "history.jsonl").records] == expected
    for one, other in zip(whole.history.records, resumed.history.records, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-5)
    assert not list(out.rglob("*.part"))


def test_a_finished_run_can_be_resumed_without_training(digits: Source, whole: RunResult, tmp_path: Path) -> None:
    run(digits.items.array, SETTINGS, tmp_path / "run")
    watch = StopAfter(0)
    again = run(digits.items.array, SETTINGS, tmp_path / "run", resume=True, watch=Watch(progress=watch))
    assert watch.begun == []
    same_result(whole, again)


def test_a_resumed_run_must_be_the_same_run(digits: Source, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(digits.items.array, SETTINGS, out, watch=Watch(progress=StopAfter(2)))
    with pytest.raises(InputError, match="data have changed"):
        run(digits.items.array[::-1].copy(), SETTINGS, out, resume=True)
    with pytest.raises(InputError, match="seed = 0, not 1"):
        run(digits.items.array, replace(SETTINGS, seed=1), out, resume=True)
    with pytest.raises(InputError, match="already holds a run"):
        run(digits.items.array, SETTINGS, out)


# Runs that go wrong say so


@pytest.mark.parametrize(
    ("overrides", "reason", "advice"),
    [
        ({"moco.learning_rate": 1e30, "moco.warm_up": 0.0}, "loss 'contrast' of stage moco became", "learning rate"),
        ({"cdc.threshold": 1.0}, "selected no item in the whole of epoch 1", "lower --set cdc.threshold"),
        (
            {"cdc.threshold": 1.0, "cdc.layout": "single"},
            "selected no item in the whole of epoch 1",
            "lower --set cdc.threshold",
        ),
    ],
)
def test_a_failed_run_leaves_its_reason_and_advice(
    overrides: dict[str, Any], reason: str, advice: str, digits: Source, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, overrides={**SETTINGS.overrides, "cdc.init": "random", **overrides})
    with pytest.raises(RunFailed, match=reason):
        run(digits.items.array, settings, tmp_path / "run")
    record = read_record(tmp_path / "run")
    assert record["status"] == "failed"
    assert reason in record["failure"]["reason"]
    assert advice in record["failure"]["advice"]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"jule.learning_rate": 1e30}, "features of stage jule are not finite any more"),
        ({"dmicc.learning_rate": 1e30, "dmicc.feature_weight": 1e9}, "weights of stage dmicc are not finite after"),
    ],
)
def test_a_last_step_that_goes_astray_is_said_of_the_stage_and_not_of_an_item(
    overrides: dict[str, Any], reason: str
) -> None:
    method = next(iter(overrides)).split(".")[0]
    points = np.random.default_rng(0).normal(size=(40, 20)).astype(np.float32)
    one_step = {f"{method}.epochs": 1, f"{method}.batch_size": 40}
    settings = RunSettings(n_clusters=3, method=method, device="cpu", overrides={**one_step, **overrides})
    with pytest.raises(RunFailed, match=reason) as failed:
        run(points, settings)
    assert f"--set {method}.learning_rate" in failed.value.advice


def test_items_that_are_all_alike_are_refused_before_training(tmp_path: Path) -> None:
    same = np.zeros((60, 80), np.float32) + np.arange(80, dtype=np.float32)
    with pytest.raises(InputError, match=r"every row is the same.*nothing to cluster"):
        run(same, RunSettings(n_clusters=3, overrides={"cdc.epochs": 1, "cdc.init": "random"}), tmp_path / "run")
    assert not (tmp_path / "run" / "history.jsonl").exists()


def test_experiments_may_look_at_every_epoch(digits: Source, whole: RunResult) -> None:
    seen: list[tuple[str, int]] = []
    looked = run(
        digits.items.array, SETTINGS, watch=Watch(after_epoch=[lambda r, net: seen.append((r.stage, r.epoch))])
    )
    assert seen == [("moco", 1), ("moco", 2), ("cdc", 1), ("cdc", 2)]
    same_result(whole, looked)


# kill -9


def fit(source: Path, out: Path, *more: str, killed_at: int = 0) -> subprocess.CompletedProcess[bytes]:
    pairs = [f"--set={name}={value}" for name, value in SETTINGS.overrides.items()]
    command = ["fit", str(source), "-k", "4", "-o", str(out), "--backbone", "small-4", "--device", "cpu", "--json"]
    config = source.with_suffix(".yaml")
    config.write_text(yaml.safe_dump({"checkpoint_seconds": 0.0}))
    return forked.run(forked.SELF_KILLER, killed_at, *command, *pairs, "--config", config, *more)


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_gives_the_same_labels(digits: Source, tmp_path: Path) -> None:
    source, out = tmp_path / "digits.npy", tmp_path / "run"
    np.save(source, digits.items.array)
    expected = run(source, replace(SETTINGS, family="auto"))
    for killed_at, more in ((7, []), (6, ["--resume"])):  # in the first stage, and a few steps on
        killed = fit(source, out, *more, killed_at=killed_at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert list((out / "checkpoints").glob("*.safetensors"))
        assert not (out / "model").exists()
    resumed = fit(source, out, "--resume")
    assert resumed.returncode == 0, resumed.stderr

    from coterie.prediction.results import read_result

    found = read_result(out / "result.parquet")
    assert np.array_equal(found.labels, expected.assignments.probabilities.argmax(1).numpy())
    assert np.array_equal(found.heads["cal"], expected.assignments.probabilities.numpy())
