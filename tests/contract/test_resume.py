"""A run of any method that is stopped in the middle of its last stage and resumed is the run that was not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from coterie.catalogue import method_class
from coterie.contract import is_trained
from coterie.pipeline import run
from coterie.preparing import Watch
from coterie.training.plan import RunSettings
from coterie.types import Source
from helpers.small_runs import RUNS, data_of, settings_for

TRAINED = [(name, kind) for name, kind in RUNS if is_trained(method_class(name))]


class Stop:
    """Presses Ctrl-C in a stage: of one epoch in its middle, of two after the first batch of the second."""

    def __init__(self, stage: str) -> None:
        self.stage, self.at, self.done, self.pressed = stage, -1, 0, False

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        wanted = steps + 1 if epochs > 1 else max(1, steps // 2)
        self.at, self.done = (wanted if stage == self.stage else -1), done

    def step(self, losses: dict[str, float] | None) -> None:
        self.done += 1
        if self.done == self.at:
            self.pressed = True
            raise KeyboardInterrupt

    def epoch(self, record: object) -> None: ...


def settings(name: str, kind: str) -> RunSettings:
    """As the contract's small runs; on embeddings, where a second epoch collapses on no processor, with two."""
    given = settings_for(name, kind)
    epochs = 2 if kind == "embeddings" else 1
    return dataclasses.replace(given, overrides={**given.overrides, f"{name}.epochs": epochs}, checkpoint_seconds=0.0)


@pytest.mark.parametrize(("name", "kind"), TRAINED, ids=["-".join(pair) for pair in TRAINED])
def test_a_run_that_is_stopped_and_resumed_is_the_run_that_was_not(
    name: str, kind: str, digits: Source, tmp_path: Path
) -> None:
    data, given, stop = data_of(kind, digits), settings(name, kind), Stop(name)
    whole = run(data, given)
    with pytest.raises(KeyboardInterrupt):
        run(data, given, tmp_path / "run", watch=Watch(progress=stop))
    assert stop.pressed
    resumed = run(data, given, tmp_path / "run", resume=True)
    assert torch.equal(resumed.assignments.probabilities, whole.assignments.probabilities)
    expected = whole.model.net.state_dict()
    for key, value in resumed.model.net.state_dict().items():
        assert torch.equal(value, expected[key]), key
