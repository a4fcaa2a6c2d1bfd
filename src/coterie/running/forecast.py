"""How long a run will take, before it begins: a few real steps of each stage, on nets that are thrown away.

Nothing of the run is touched: its random numbers are functions of seed and place, torch's own state is put back, and
no file is written. If the estimate fails, the run begins without one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from coterie.calibration import Calibration, PostHoc, calibration_net
from coterie.common.words import counted
from coterie.contract import Method, is_trained, name_of, passes_of
from coterie.data.items import ChosenItems, Embeddings
from coterie.report.wording import duration
from coterie.running.beginning import epochs_of
from coterie.running.prepared import Prepared
from coterie.running.stages import build_net
from coterie.training.batches import batches_at_once
from coterie.training.passes import plan_passes, steps_of
from coterie.training.seeds import generator_of
from coterie.training.timing import TIMED, Timing
from coterie.types import Items

WORTH_SAYING = 20.0  # seconds of a whole run
SHORT_STEPS = 1000  # a run of fewer steps and numbers than these is not worth the timing
SHORT_NUMBERS = {"images": 3e6, "embeddings": 3e7}
GROUPS = 10  # of a calibration head, while a method is still to find their number


@dataclass(frozen=True)
class StageTime:
    """The expected seconds of a stage, and the epochs that it has left."""

    name: str
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """The expected seconds of the stages, first to last, and of what comes after them (calibration, prediction).

    `embedding`: of an encoder that has still to make the embeddings.
    """

    stages: list[StageTime]
    rest: float
    embedding: float = 0.0

    @property
    def seconds(self) -> float:
        return self.embedding + sum(stage.seconds for stage in self.stages) + self.rest

    def __str__(self) -> str:
        """Such as "About 1 h 10 min on this machine: moco 55 min (200 epochs), cdc 15 min (20 epochs)."."""
        parts = [
            f"{part.name} {roughly(part.seconds)} ({counted(part.epochs, 'epoch')})"
            for part in self.stages
            if part.epochs
        ]
        if self.embedding:
            parts.insert(0, f"embedding {roughly(self.embedding)}")
        whole = roughly(self.seconds)
        whole = f"About {whole}" if whole[0].isdigit() else whole.capitalize()
        return f"{whole} on this machine{': ' if parts else ''}{', '.join(parts)}."


def roughly(seconds: float) -> str:
    """A time with no more digits than an estimate has: "less than 10 s", "40 s", "55 min", "5 h 20 min"."""
    if seconds < 10:
        return "less than 10 s"
    unit = 10 if seconds < 60 else 30 if seconds < 600 else 60 if seconds < 3600 else 600 if seconds < 36000 else 3600
    return duration(round(seconds / unit) * unit).replace("\N{NO-BREAK SPACE}", " ")


def forecast(prepared: Prepared, *, short: bool = True) -> Forecast | None:
    """The time that a prepared run will take; None where it cannot be told, and without `short` where it is short."""
    if prepared.processes > 1:
        return None
    cards = [prepared.device] if prepared.device.type == "cuda" else []
    try:
        if not short and is_short(prepared):
            return None
        with warnings.catch_warnings(), torch.random.fork_rng(cards):
            warnings.simplefilter("ignore")
            return _forecast(prepared)
    except Exception:  # whatever it is, the run itself will meet it, or will not
        return None


def is_short(prepared: Prepared) -> bool:
    """Whether a training is so small that no estimate is needed."""
    spec, items = prepared.source.items.spec, prepared.taught
    numbers = spec.dim if spec.kind == "embeddings" else spec.channels * spec.height * spec.width
    trained = [method for method in prepared.plan.stages if is_trained(method)]
    sizes = [min(method.batch_size, len(items)) for method in trained]
    steps = [
        method.epochs * steps_of(plan_passes(method, items, None, size, 1))
        for method, size in zip(trained, sizes, strict=True)
    ]
    seen = sum(count * size for count, size in zip(steps, sizes, strict=True))
    return sum(steps) < SHORT_STEPS and seen * numbers < SHORT_NUMBERS[spec.kind]


def _forecast(prepared: Prepared) -> Forecast | None:
    """All stages' times. The net of one is that of the next, as in the run."""
    plan, settings, taught = prepared.plan, prepared.settings, prepared.taught
    if prepared.source.extra is not None and any(one.extra for m in plan.stages for one in passes_of(m)):
        return None  # items that nobody has opened yet
    cost = 0.0
    net = prepared.init.net if prepared.init is not None else None
    stages: list[StageTime] = []
    for method in plan.stages:
        few = sample_of(taught, method, settings.k, prepared.device)
        small = replace(prepared, source=replace(prepared.source, items=few, outliers=(), extra=None))
        net = build_net(small, method, net)
        epochs = epochs_left(prepared, method)
        timing = Timing(net, method, few, len(taught), settings.k, settings.seed, prepared.family, plan.views)
        cost = timing.item
        seconds = timing.seconds() * epochs / epochs_of(method) if epochs else 0.0
        stages.append(StageTime(name_of(method), epochs, seconds))
    assert net is not None
    rest = 2 * cost * len(prepared.source.items)  # for K-means or the like at the end of the last stage, and to predict
    if plan.calibration is not None:
        k = settings.k or GROUPS
        random = generator_of(settings.seed, "forecast")
        head = plan.calibration_of(k)
        rows = min(len(taught), (1 + TIMED) * head.batch_size)
        said = torch.rand(rows, k, generator=random).softmax(1)
        rest += cost * len(prepared.source.items) + _calibration(said, net.width, head, prepared)
    return Forecast(stages, rest, prepared.source.embedding_seconds)


def _calibration(said: Tensor, width: int, settings: Calibration, prepared: Prepared) -> float:
    """Seconds to train a calibration head on features of that width, all of which are known by then."""
    method = PostHoc(settings, said)
    features = Embeddings(
        torch.randn(len(said), width, generator=generator_of(settings.batch_size, "forecast")).numpy()
    )
    net = calibration_net(method, torch.zeros(width), torch.ones(width), prepared.settings.seed).to(prepared.device)
    n, k, views = len(prepared.taught), said.shape[1], prepared.plan.views
    return Timing(net, method, features, n, k, prepared.settings.seed, "vector", views).seconds()


def sample_of(items: Items, method: Method, k: int, device: torch.device) -> Items:
    """Rows spread evenly over the items, as many as a few batches and the method's settings need."""
    least = [getattr(method, name, 0) or 0 for name in ("hidden", "neighbours", "most_groups", "over")]
    size = method.batch_size if is_trained(method) else 2
    together = batches_at_once(items.spec, size, device)
    n = max((TIMED + together) * size, *(2 * number for number in (*least, k)), 500)
    return ChosenItems(items, np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(np.int64))


def epochs_left(prepared: Prepared, method: Method) -> int:
    """Epochs that a stage has still to do; a resumed run has done some."""
    name = name_of(method)
    done, begun = (prepared.folder.file("checkpoints", f"{name}{end}.safetensors") for end in (".done", ""))
    if done is not None and done.exists():
        return 0
    if begun is not None and begun.exists():
        seen = [record.epoch for record in prepared.history.records if record.stage == name]
        return max(0, epochs_of(method) - max(seen, default=0))
    return epochs_of(method)
