"""The training loop: shuffled batches of views go to the method, and each of its losses becomes an optimiser step.

A checkpoint holds the net, the optimiser and the place (epoch, step). All random numbers are functions of the seed and
the place, so a run that is killed anywhere and resumed takes the same steps as one that was not.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from coterie.contract import (
    Method,
    Step,
    Trained,
    begin_epoch,
    begins_epochs,
    is_trained,
    name_of,
    optimisers_of,
    rates_of,
    start,
    trained_by,
)
from coterie.contract.members import numbers, tensors
from coterie.contract.options import ALL
from coterie.networks.net import Net
from coterie.training.advice import Advice, advice_for
from coterie.training.batches import BatchMaker, batches_of
from coterie.training.checkpoints import load_tree, restoring, save_tree
from coterie.training.distributed import any_process, average_gradients
from coterie.training.health import (
    Meter,
    check_epoch,
    check_losses,
    check_weights,
    early_warning,
    group_health,
    late_warning,
)
from coterie.training.history import EpochRecord, History
from coterie.training.interrupt import Stop, Stopped, between_steps
from coterie.training.passes import plan_passes, steps_of
from coterie.training.seeds import generator_of, seed_torch
from coterie.types import Batch, CoterieError, EpochStart, Family, Features, InputError, Items, Losses
from coterie.views.settings import ViewSettings

LOSSES = "{name: loss}, and it must `yield` one for each optimiser step"
CHECK_EVERY = 20  # steps between looks at the losses, each of which waits for the device


@runtime_checkable
class Progress(Protocol):
    """The interface of what follows a stage: a progress bar, a log."""

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
    # may only look, and add to the record's health numbers
    after_epoch: list[Callable[[EpochRecord, Net], None]] = field(default_factory=list)
    extra: Callable[[], Items] | None = None  # opens further items for the passes that want them
    warn: Callable[[str], None] = lambda text: None
    views_given: frozenset[str] = frozenset()  # settings of views that the user chose

    @property
    def name(self) -> str:
        return name_of(self.method)


@dataclass
class Position:
    """Where a stage stands: `step` steps of epoch `epoch` (from 0) are done."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0  # of the current epoch
    meter: Meter = field(default_factory=Meter)
    whole: bool = True  # whether net and optimisers are those of this place, and not half a step further


def train_stage(net: Net, stage: Stage) -> None:
    """Train one stage to its last epoch, from its checkpoint where there is one. Raises RunFailed.

    A method that takes no steps is done when it has started.
    """
    if not is_trained(stage.method):
        stage.history.keep(stage.name, 0)
        start(stage.method, net, stage.features, stage.k, generator_of(stage.seed, stage.name, "start"))
        return
    training = Training(net, stage, stage.method)
    training.begin()
    try:
        with between_steps() as stop:
            while training.at.epoch < stage.method.epochs:
                training.epoch(stop)
    except BaseException as error:
        # What went wrong outside of a step (a signal, no memory, no thread) takes nothing away: all that is done stays.
        if training.at.whole and not isinstance(error, CoterieError) and not getattr(error, "again", False):
            with nullcontext() if isinstance(error, KeyboardInterrupt) else suppress(Exception):
                training.save()
        raise


class Training:
    """A stage on its way: net, optimisers and place, which together are what a checkpoint holds."""

    def __init__(self, net: Net, stage: Stage, method: Trained) -> None:
        self.net, self.stage, self.method = net, stage, method
        size = min(method.batch_size, len(stage.items))
        self.plans = plan_passes(method, stage.items, stage.extra, size, stage.processes)
        self.steps = steps_of(self.plans)
        self.optimisers = optimisers_of(method, net)
        self.rates = {name: [group["lr"] for group in one.param_groups] for name, one in self.optimisers.items()}
        self.maker = BatchMaker(
            method,
            net,
            self.plans,
            seed=stage.seed,
            family=stage.family,
            views=stage.views,
            features=stage.features,
            views_given=stage.views_given,
            rank=stage.rank,
            processes=stage.processes,
        )
        self.at = Position()
        self.saved_at = time.monotonic()

    def begin(self) -> None:
        """Restore the checkpoint, or let the method prepare its net where there is none."""
        stage, path = self.stage, self.stage.checkpoint
        saved = load_tree(path, self.net.mean.device) if path is not None and path.exists() else None
        if saved is not None:
            assert path is not None
            with restoring(path):
                self.restore(saved)
        stage.history.keep(stage.name, self.at.epoch)
        if saved is None:
            start(self.method, self.net, stage.features, stage.k, generator_of(stage.seed, stage.name, "start"))
        if stage.progress is not None:
            done = self.at.epoch * self.steps + self.at.step
            stage.progress.begin(stage.name, self.method.epochs, self.steps, done)
        self.net.train()

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore the state of a checkpoint. Raises ValueError or KeyError for one that does not fit."""
        self.net.load_state_dict(saved["net"])
        states = saved["optimisers"] if "optimisers" in saved else {ALL: saved["optimiser"]}  # before: a single one
        for name, optimiser in self.optimisers.items():
            restore(optimiser, states[name])
        at = Position(saved["epoch"], saved["step"], saved["seconds"], Meter(**saved["meter"]))
        if not (0 <= at.epoch <= self.method.epochs and 0 <= at.step <= self.steps and at.seconds >= 0):
            raise ValueError(f"it is of epoch {at.epoch}, step {at.step}")
        self.at = at

    def save(self) -> None:
        """Write the checkpoint, if the stage has a path for it."""
        self.saved_at = time.monotonic()
        if self.stage.checkpoint is None or self.stage.rank != 0:
            return
        at = self.at
        state = {
            "net": self.net.state_dict(),
            "optimisers": {name: one.state_dict() for name, one in self.optimisers.items()},
            "meter": at.meter.state(),
        }
        save_tree(self.stage.checkpoint, {**state, "epoch": at.epoch, "step": at.step, "seconds": at.seconds})

    def epoch(self, stop: Stop) -> None:
        """Train to the end of the epoch. Raises Stopped after a step if the process was asked to stop."""
        at, ended = self.at, False
        clock = time.perf_counter() - at.seconds
        if at.step == 0:
            ended = self.begin_epoch()
        for batch in batches_of(self.maker, at.epoch, at.step):
            at.whole = False
            self.batch(batch)
            at.step += 1
            at.seconds = time.perf_counter() - clock
            ended = ended or batch.ended
            # After the last step only the whole epoch's end is a place to go on from.
            at.whole = at.step < self.steps and not ended
            self.report(ended)
            if ended:
                break
            if at.whole:
                _heed(stop, self.net)
                if self.is_time():
                    self.save()
        self.close_epoch()
        if ended:
            at.epoch = self.method.epochs
        at.whole = True
        if self.is_time() or at.epoch == self.method.epochs:
            self.save()
        _heed(stop, self.net)

    def begin_epoch(self) -> bool:
        """Let the method renew what is fixed for an epoch. Returns whether the stage is to end with the first batch."""
        stage, at = self.stage, self.at
        if not begins_epochs(self.method):
            return False
        # Until the first step is done only the epoch before is a place to go on from: this would be done twice.
        at.whole = False
        path = (stage.seed, stage.name, at.epoch)
        seed_torch(*path, "begin", "torch")
        # The numbers of the epoch's first step, which no method draws for both.
        begun = EpochStart(at.epoch, stage.features, generator_of(*path, 0, "method"))
        begin_epoch(self.method, self.net, begun)
        for text in begun.warnings:
            stage.warn(text)
        logged = numbers(self.method, "epoch.log", begun.logged)
        at.meter.add({f"health.{key}": value for key, value in logged.items()})
        return begun.ended

    def batch(self, batch: Batch) -> None:
        """Every optimiser step of one batch, and the numbers that it logs.

        Raises InputError for a `step` without losses.
        """
        meter = self.at.meter
        for name, optimiser in self.optimisers.items():
            factors = rates_of(self.method, batch.progress, optimiser.param_groups)
            for group, rate, factor in zip(optimiser.param_groups, self.rates[name], factors, strict=True):
                group["lr"] = rate * factor
        steps: Any = self.method.step(self.net, batch)
        if not isinstance(steps, Iterable):  # a `step` without any `yield` returns None
            raise InputError(
                f"`step` of {type(self.method).__name__} returned a {type(steps).__name__}: it takes `yield` and a "
                "dictionary of losses."
            )
        for step in steps:
            self.check(step)
            losses = self.take(step)
            meter.add({f"loss.{key}": value.detach() for key, value in losses.items()})
        logged = numbers(self.method, "batch.log", batch.logged)
        meter.add({f"health.{key}": value for key, value in logged.items()})
        if batch.counts is not None:
            meter.add_groups(batch.counts)
        if batch.histogram is not None:
            meter.add_histogram(batch.histogram)

    def check(self, step: Any) -> None:
        """Raise InputError unless a step of the method is losses by name, at least one of which has a gradient."""
        losses = tensors(self.method, "step", step.losses if isinstance(step, Step) else step, LOSSES, 0)
        if not any(value.requires_grad for value in losses.values()):
            gave = " and ".join(losses) or "no loss"
            raise InputError(
                f"`step` of {type(self.method).__name__} gave {gave}, which depends on nothing that is trained: it "
                "takes at least one loss with a gradient."
            )

    def take(self, step: Losses | Step) -> Losses:
        """One optimiser step. Optimisers that do not take part get no gradient."""
        step = step if isinstance(step, Step) else Step(step)
        losses, chosen = step.losses, trained_by(self.method, step, self.optimisers)
        trained = _trained(chosen)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        # To these parameters only, where others lie on the way: a discriminator that judges, say.
        torch.stack(list(losses.values())).sum().backward(inputs=trained if step.trains else None)
        average_gradients(trained)
        for optimiser in chosen:
            optimiser.step()
        return losses

    def report(self, ended: bool) -> None:
        """Report the step as progress, and check the losses now and then."""
        at, stage = self.at, self.stage
        check = at.step % CHECK_EVERY == 0 or at.step == self.steps or ended
        means = _part(at.meter, "loss") if check else None
        if means is not None:
            check_losses(_advice(self.net, stage, self.method), at.epoch + 1, means)
        if stage.progress is not None:
            stage.progress.step(means)

    def is_time(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self.saved_at > self.stage.checkpoint_seconds

    def close_epoch(self) -> None:
        """Write the epoch's record, check its health, and move on to the next epoch."""
        stage, at, meter = self.stage, self.at, self.at.meter
        losses, health = _part(meter, "loss"), {**_part(meter, "health"), **group_health(meter.groups)}
        items = sum(plan.seen for plan in self.plans) * at.step // self.steps
        speed = items / max(at.seconds, 1e-9)
        record = EpochRecord(
            stage.name,
            at.epoch + 1,
            self.method.epochs,
            losses,
            health,
            round(at.seconds, 3),
            round(speed, 1),
            meter.histogram,
        )
        for look in stage.after_epoch:
            look(record, self.net)
            self.net.train()
        if stage.rank == 0:
            stage.history.add(record)
        if stage.progress is not None:
            stage.progress.epoch(record)
        advice = _advice(self.net, stage, self.method)
        check_weights(advice, record.epoch, _trained(self.optimisers.values()))
        check_epoch(advice, record.epoch, record.epochs, health)
        if not losses and at.epoch == 0 and at.step == self.steps:
            raise InputError(
                f"`step` of {type(self.method).__name__} yielded no losses in the whole first epoch, so nothing was "
                "trained: what comes before training belongs into `start` or `begin_epoch`."
            )
        if warning := early_warning(stage.name, record.epoch, record.epochs, health, stage.k):
            stage.warn(warning)
        crowded = 2 * stage.k >= len(stage.items)
        if warning := late_warning(advice, record.epoch, record.epochs, losses, crowded=crowded):
            stage.warn(warning)
        at.epoch, at.step, at.seconds, at.meter = at.epoch + 1, 0, 0.0, Meter()


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


def _advice(net: Net, stage: Stage, method: Trained) -> Advice:
    whole = method.batch_size >= len(stage.items)
    return advice_for(method, stage.before, half=net.backbone.enabled, whole=whole)


def _trained(optimisers: Iterable[torch.optim.Optimizer]) -> list[nn.Parameter]:
    """The parameters of these optimisers."""
    return [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]


def _part(meter: Meter, kind: str) -> dict[str, float]:
    return {key.split(".", 1)[1]: value for key, value in meter.mean().items() if key.startswith(kind + ".")}
