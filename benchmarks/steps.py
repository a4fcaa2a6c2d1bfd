"""A training step of every method beside the bare passes that it contains: ratios, each method's in one run.

    python benchmarks/steps.py                      # every method that takes steps, those that are done left out
    python benchmarks/steps.py --methods cc scan --again

What a step contains is not written down but recorded: in one epoch every call of a part of the net (backbone, heads,
teacher, decoder) is kept with its input, with whether it took gradients and whether any came back to its output. The
bare passes are these calls again, one by one, and one backward pass through those that gradients came back to. The step
is that of the engine with all it does: items, views, losses, teacher, optimiser, numbers for the history. An epoch's
first step is left out, since what is renewed once an epoch falls into it, and so is the method's start. `steps` of an
epoch of 8 batches are added up; engine and bare passes take turns, and the middle one of five pairs is told (target: at
most 1.2). Each method's own preset and batch, its last stage only, from untrained weights. Data: ten random patterns
under noise at Fashion-MNIST's form, 28×28×1, backbone as `coterie fit` takes it on a processor; 16×16 numbers
for methods of embeddings. Each method runs in a process of its own. Let nothing else run beside it. Writes
benchmarks/results/steps.json after each.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from _measure import RESULTS, in_a_process, write_results
from speed import pixels
from torch import Tensor, nn

from coterie.catalogue import method_class, method_names
from coterie.contract import is_trained
from coterie.networks.features import extract_features
from coterie.networks.net import Net
from coterie.running.prepared import Prepared, Watch
from coterie.running.preparing import prepare
from coterie.running.stages import build_net
from coterie.training.engine import Stage, train_stage
from coterie.training.history import EpochRecord, History
from coterie.training.plan import RunSettings
from coterie.types import RunFailed

BATCHES, EPOCHS, PAIRS, SIDE = 8, 2, 5, 16


def tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return tensors_in(list(value.values()))
    return [found for one in value for found in tensors_in(one)] if isinstance(value, list | tuple) else []


def fresh(value: Any) -> Any:
    """The same input as a leaf of a graph of its own."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        return type(value)(fresh(one) for one in value)
    return value


@dataclass
class Call:
    """One call of a part of the net, and whether gradients came back to what it gave."""

    part: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    with_gradient: bool
    half: bool
    training: bool
    returned: bool = False

    def came_back(self, _: Tensor) -> None:
        self.returned = True


class Clock:
    """Stops the time of every step of each epoch, from one end of a step to the next."""

    def __init__(self) -> None:
        self.epochs: list[list[float]] = [[]]
        self.last = 0.0

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.last = time.perf_counter()

    def step(self, losses: dict[str, float] | None) -> None:
        now = time.perf_counter()
        self.epochs[-1].append(now - self.last)
        self.last = now

    def epoch(self, record: EpochRecord) -> None:
        self.epochs.append([])
        self.last = time.perf_counter()

    @property
    def times(self) -> list[float]:
        """Of the last whole epoch."""
        return whole(self.epochs)


def whole(epochs: list[list[Any]]) -> list[Any]:
    """The steps of the last epoch that has as many as any: a method's own rule may end one early."""
    most = max(len(steps) for steps in epochs)
    return [steps for steps in epochs if len(steps) == most][-1]


class Recorder:
    """The calls of each step of each epoch; a call inside another one belongs to that."""

    def __init__(self, net: Net) -> None:
        self.epochs: list[list[list[Call]]] = []
        self.steps: list[list[Call]] = [[]]
        self.inside = 0
        # What changes its input in place cannot be done again alone; such a part is a step within another one.
        once = {name: part for name, part in net.named_modules() if name and not getattr(part, "inplace", False)}
        for name, part in once.items():
            part.register_forward_pre_hook(partial(self.before, name), with_kwargs=True)
            part.register_forward_hook(self.after, always_call=True)

    def before(self, name: str, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.inside == 0:
            half = torch.is_autocast_enabled("cpu")
            own = Call(name, fresh(args), kwargs, torch.is_grad_enabled(), half, part.training)
            self.steps[-1].append(own)
        self.inside += 1

    def after(self, part: nn.Module, args: Any, output: Any) -> None:
        self.inside -= 1
        if self.inside == 0:
            for one in tensors_in(output):
                if one.requires_grad:
                    one.register_hook(self.steps[-1][-1].came_back)

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.steps = [[]]

    def step(self, losses: dict[str, float] | None) -> None:
        self.steps.append([])

    def epoch(self, record: EpochRecord) -> None:
        self.epochs.append(self.steps[:-1])
        self.steps = [[]]

    @property
    def kept(self) -> list[list[Call]]:
        """Of the last whole epoch."""
        return whole(self.epochs)


def replay(net: Net, calls: list[Call]) -> None:
    """The bare passes of a step."""
    sums = []
    for call in calls:
        part = net.get_submodule(call.part)
        part.train(call.training)
        with torch.set_grad_enabled(call.with_gradient), torch.autocast("cpu", torch.bfloat16, enabled=call.half):
            found = part(*fresh(call.args), **call.kwargs)
        if call.returned:
            sums += [one.float().square().mean() for one in tensors_in(found) if one.requires_grad]
    if sums:
        torch.stack(sums).sum().backward()
    net.zero_grad()


def untrained(prepared: Prepared) -> Net:
    """The net of the last stage, as those before it would hand it over without training."""
    net: Net | None = None
    for method in prepared.plan.stages:
        net = build_net(prepared, method, net)
    assert net is not None
    return net


def train(prepared: Prepared, net: Net, progress: Any) -> None:
    items = prepared.source.items

    def features(*, half: bool = False, by: nn.Module | None = None, most: int | None = None) -> Tensor:
        rows = None if most is None else torch.arange(min(most, len(items)))
        return extract_features(net, items, rows, half=half, by=by)

    views, history = prepared.plan.views, History(None)
    stage = Stage(prepared.plan.method, items, "photo", 10, 0, views, features, history, progress=progress)
    with suppress(RunFailed):  # the groups of a net without its pre-training may collapse, when an epoch is over
        train_stage(net, stage)


def prepared_for(name: str) -> tuple[Prepared, int]:
    """A run of the method on enough items for eight of its batches, and its batch."""
    images = "images" in method_class(name).card.accepts

    def of(n: int) -> Prepared:
        source = pixels(n, 28, 1) if images else pixels(n, SIDE, 1).reshape(n, -1).astype(np.float32)
        settings = RunSettings(10, name, epochs=EPOCHS, device="cpu", calibrate=False)
        return prepare(source, settings, None, resume=False, watch=Watch())

    n = 2048
    found = of(n)
    batch = int(found.plan.method.batch_size)  # type: ignore[attr-defined]
    return (found if batch * BATCHES <= n else of(batch * BATCHES)), batch


def measure(name: str) -> dict[str, Any]:
    """Engine and bare passes of one method in turns."""
    prepared, batch = prepared_for(name)
    net = untrained(prepared)
    recorder = Recorder(net)
    train(prepared, net, recorder)
    steps = recorder.kept[1:]
    if not any(steps):
        return {"status": f"not measured: {'no pass is a call of a part of the net' if steps else 'one step an epoch'}"}
    engine, bare = [], []
    for _ in range(PAIRS):
        clock = Clock()
        train(prepared, untrained(prepared), clock)
        engine.append(sum(clock.times[1:]))
        net = untrained(prepared).train()
        replay(net, steps[0])
        begun = time.perf_counter()
        for calls in steps:
            replay(net, calls)
        bare.append(time.perf_counter() - begun)
    pairs = sorted((step / alone, step, alone) for step, alone in zip(engine, bare, strict=True))
    ratio, step, alone = pairs[PAIRS // 2]
    return {
        "batch": batch,
        "precision": prepared.precision.name,
        "backbone": prepared.backbone.name,
        "calls": len(steps[0]),
        "step_seconds": round(step / len(steps), 5),
        "bare_seconds": round(alone / len(steps), 5),
        "ratio": round(ratio, 3),
        "ratios": [round(pair[0], 3) for pair in pairs],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in method_names() if is_trained(method_class(name))]
    options.add_argument("--methods", nargs="+", choices=known, default=known)
    options.add_argument("--again", action="store_true", help="measure anew what is done")
    options.add_argument("--limit", type=float, default=900.0, help="seconds for each")
    options.add_argument("--one", choices=known, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    path = RESULTS / "steps.json"
    done = json.loads(path.read_text(encoding="utf-8"))["methods"] if path.exists() else {}
    for name in given.methods:
        if given.again or done.get(name, {}).get("status") != "done":
            done[name] = in_a_process(__file__, [name], given.limit)
            print(name, done[name], flush=True)
            write_results("steps", "python benchmarks/steps.py", methods=dict(sorted(done.items())))


if __name__ == "__main__":
    main()
