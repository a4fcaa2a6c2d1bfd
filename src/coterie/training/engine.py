"""The training loop: shuffled batches of views go to the method, and each of its losses becomes an optimiser step.

A checkpoint holds the net, the optimiser and the place (epoch, step). All random numbers are functions of the seed and
the place, so a run that is killed anywhere and resumed takes the same steps as one that was not.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from coterie.methods.contract import Method, name_of
from coterie.networks.net import Net
from coterie.training.advice import Advice, advice_for
from coterie.training.batches import Taught, batches_of
from coterie.training.checkpoints import fitting, load_tree, save_tree
from coterie.training.distributed import any_process, average_gradients
from coterie.training.health import Meter, check_epoch, check_losses, early_warning, group_health
from coterie.training.history import EpochRecord, History
from coterie.training.interrupt import Stop, Stopped, between_steps
from coterie.training.passes import Way, ways_of
from coterie.training.seeds import generator_of
from coterie.types import CoterieError, Features, Items
from coterie.views.recipes import Family
from coterie.views.settings import ViewSettings

CHECK_EVERY = 20  # steps between looks at the losses, each of which waits for the device


@runtime_checkable
class Progress(Protocol):
    """What watches a stage (a progress bar, a log, nothing)."""

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None: ...

    def step(self, losses: dict[str, float] | None) -> None:
        """One batch is done; `losses` are the epoch's means so far, now and then."""
        ...

    def epoch(self, record: EpochRecord) -> None: ...


@dataclass
class Stage:
    """Everything that one stage needs beside its net."""

    method: Method
    items: Items
    family: Family
    k: int
    seed: int
    views: ViewSettings
    features: Features
    history: History
    checkpoint: Path | None = None  # where to keep the state, None: nowhere
    checkpoint_seconds: float = 60.0
    progress: Progress | None = None
    before: str | None = None  # the stage before it in its run
    rank: int = 0
    processes: int = 1
    after_epoch: list[Callable[[EpochRecord, Net], None]] = field(
        default_factory=list
    )  # may only look, and add to the record's health numbers
    extra: Callable[[], Items] | None = None  # opens further items for the passes that want them
    warn: Callable[[str], None] = lambda text: None


@dataclass
class Place:
    """Where a stage stands: `step` steps of epoch `epoch` (from 0) are done."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0  # of the current epoch
    meter: Meter = field(default_factory=Meter)
    whole: bool = True  # whether net and optimiser are those of this place, and not half a step further


def train_stage(net: Net, stage: Stage) -> None:
    """Train one stage to its last epoch, from its checkpoint where there is one. Raises RunFailed."""
    method, name = stage.method, name_of(stage.method)
    size = min(method.batch_size, len(stage.items))
    ways = ways_of(method, stage.items, stage.extra, size, stage.processes)
    steps = sum(way.steps for way in ways)
    place = Place()
    optimiser = method.optimiser(net)
    saved = load_tree(stage.checkpoint, net.mean.device) if stage.checkpoint and stage.checkpoint.exists() else None
    if saved is not None:
        assert stage.checkpoint is not None
        with fitting(stage.checkpoint):
            net.load_state_dict(saved["net"])
            restore(optimiser, saved["optimiser"])
            place = Place(saved["epoch"], saved["step"], saved["seconds"], Meter(**saved["meter"]))
            if not (0 <= place.epoch <= method.epochs and 0 <= place.step <= steps and place.seconds >= 0):
                raise ValueError(f"it is of epoch {place.epoch}, step {place.step}")
        stage.history.keep(name, place.epoch)
    else:
        stage.history.keep(name, 0)
        method.start(net, stage.features, stage.k, generator_of(stage.seed, name, "start"))
    rates = [group["lr"] for group in method.optimiser(net).param_groups]
    if stage.progress is not None:
        stage.progress.begin(name, method.epochs, steps, place.epoch * steps + place.step)

    def save() -> None:
        if stage.checkpoint is not None and stage.rank == 0:
            state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "meter": place.meter.state()}
            save_tree(stage.checkpoint, {**state, "epoch": place.epoch, "step": place.step, "seconds": place.seconds})

    try:
        with between_steps() as stop:
            _go_on(net, stage, ways, optimiser, rates, place, save, stop)
    except BaseException as error:
        # What went wrong outside of a step (a signal, no memory, no thread) takes nothing away: all that is done stays.
        if place.whole and not isinstance(error, CoterieError) and not getattr(error, "again", False):
            with nullcontext() if isinstance(error, KeyboardInterrupt) else suppress(Exception):
                save()
        raise


def _go_on(
    net: Net,
    stage: Stage,
    ways: tuple[Way, ...],
    optimiser: torch.optim.Optimizer,
    rates: list[float],
    place: Place,
    save: Callable[[], None],
    stop: Stop,
) -> None:
    """Train from `place` to the last epoch. Raises Stopped after a step when it is asked to stop."""
    method, name = stage.method, name_of(stage.method)
    steps = sum(way.steps for way in ways)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    taught = _taught(net, stage, min(method.part_size, method.batch_size, len(stage.items)))
    last_saved = time.monotonic()
    net.train()
    while place.epoch < method.epochs:
        clock = time.perf_counter() - place.seconds
        for batch in batches_of(ways, taught, place.epoch, place.step):
            place.whole = False
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * method.rate(batch.progress)
            for losses in method.step(net, batch):
                optimiser.zero_grad(set_to_none=True)
                total = torch.stack(list(losses.values())).sum()
                total.backward()
                average_gradients(trained)
                optimiser.step()
                place.meter.add({f"loss.{key}": value.detach() for key, value in losses.items()})
            place.meter.add({f"health.{key}": value.detach() for key, value in batch.logged.items()})
            if batch.counts is not None:
                place.meter.add_groups(batch.counts)
            if batch.histogram is not None:
                place.meter.add_histogram(batch.histogram)
            place.step += 1
            place.seconds = time.perf_counter() - clock
            # After the last step only the whole epoch's end is a place to go on from.
            place.whole = place.step < steps and not batch.ended
            check = place.step % CHECK_EVERY == 0 or place.step == steps or batch.ended
            means = _part(place.meter, "loss") if check else None
            if means is not None:
                check_losses(_advice(net, stage), place.epoch + 1, means)
            if stage.progress is not None:
                stage.progress.step(means)
            if batch.ended:
                break
            if place.whole:
                _heed(stop, net)
                if time.monotonic() - last_saved > stage.checkpoint_seconds:
                    save()
                    last_saved = time.monotonic()
        _close_epoch(net, stage, name, sum(way.seen for way in ways) * place.step // steps, place)
        if batch.ended:
            place.epoch = method.epochs
        place.whole = True
        if time.monotonic() - last_saved > stage.checkpoint_seconds or place.epoch == method.epochs:
            save()
            last_saved = time.monotonic()
        _heed(stop, net)


def _heed(stop: Stop, net: Net) -> None:
    """Raise Stopped in every process when any of them was asked to stop, so that none waits for another."""
    if any_process(stop.asked is not None, net.mean.device):
        raise Stopped(number=stop.asked or signal.SIGINT)


def restore(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimiser's state, each tensor in the memory layout of its parameter.

    A checkpoint holds them contiguous, and torch's fused optimisers read and write memory in order, without a look at
    how the images' channels lie in it.
    """
    optimiser.load_state_dict(saved)
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def _advice(net: Net, stage: Stage) -> Advice:
    whole = stage.method.batch_size >= len(stage.items)
    return advice_for(stage.method, stage.before, half=net.backbone.enabled, whole=whole)


def _taught(net: Net, stage: Stage, part: int) -> Taught:
    """What the stage's batches are made for and from."""
    processes = (stage.rank, stage.processes)
    return Taught(
        stage.method, part, stage.seed, stage.family, stage.views, net.mean, net.std, stage.features, *processes
    )


def _close_epoch(net: Net, stage: Stage, name: str, items: int, place: Place) -> None:
    """Write the epoch's record, check its health, and move on to the next epoch."""
    meter = place.meter
    losses, health = _part(meter, "loss"), {**_part(meter, "health"), **group_health(meter.groups)}
    speed = items / max(place.seconds, 1e-9)
    record = EpochRecord(
        name,
        place.epoch + 1,
        stage.method.epochs,
        losses,
        health,
        round(place.seconds, 3),
        round(speed, 1),
        meter.histogram,
    )
    for look in stage.after_epoch:
        look(record, net)
        net.train()
    if stage.rank == 0:
        stage.history.add(record)
    if stage.progress is not None:
        stage.progress.epoch(record)
    check_epoch(_advice(net, stage), record.epoch, record.epochs, health)
    if warning := early_warning(name, record.epoch, record.epochs, health, stage.k):
        stage.warn(warning)
    place.epoch, place.step, place.seconds, place.meter = place.epoch + 1, 0, 0.0, Meter()


def _part(meter: Meter, kind: str) -> dict[str, float]:
    return {key.split(".", 1)[1]: value for key, value in meter.mean().items() if key.startswith(kind + ".")}
