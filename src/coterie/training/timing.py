"""Estimates how long a stage takes from a few of its steps, on a net that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from statistics import median

import torch
from torch import Tensor, nn

from coterie.contract import Method, Step, Trained, begin_epoch, is_trained, name_of, optimisers_of, start, views_of
from coterie.networks.features import chunk_size, clean
from coterie.networks.net import Net
from coterie.training.batches import BatchMaker, batches_at_once, batches_of
from coterie.training.passes import PassPlan, plan_passes, steps_of
from coterie.training.seeds import generator_of
from coterie.types import Batch, EpochStart, Family, Items
from coterie.views.settings import ViewSettings

STAGE_SECONDS = 2.0  # of steps that a stage is timed for
TIMED = 3  # steps after the first, which warms up
PROBED_PIXELS = 2**16  # in the first look at what a picture costs


class Timing:
    """One stage on a few of its `n` items, with a net of its own; `item`: seconds for one item in evaluation."""

    def __init__(
        self, net: Net, method: Method, items: Items, n: int, k: int, seed: int, family: Family, views: ViewSettings
    ) -> None:
        self.net, self.method, self.items, self.n, self.k = net, method, items, n, k
        self.seed, self.family, self.views, self.device = seed, family, views, net.mean.device
        self.plans = plan_passes(method, items, None, self.size_for(len(items)), 1)
        self.asked = 0  # how often features of all items were wanted
        random = generator_of(seed, "forecast", name_of(method))
        self.random_features = torch.randn(len(items), net.width, generator=random).to(self.device)
        self.item, self.trained_item = self._cost_of_an_item()

    def size_for(self, n: int) -> int:
        """The batch size that is timed: at most `n` items."""
        return min(self.method.batch_size, n) if is_trained(self.method) else n

    def features(self, *, half: bool = False, by: nn.Module | None = None, most: int | None = None) -> Tensor:
        """Quick random features in place of those of all items."""
        self.asked += 1
        rows = self.random_features[:most]
        return rows.clone() if by is None else torch.randn(len(rows), self._width_by(by)).to(rows)

    @torch.no_grad()
    def _width_by(self, by: nn.Module) -> int:
        """The number of features of another network."""
        training = by.training
        by.eval()
        width = by(clean(self.items.take(torch.arange(1)).to(self.device), self.net)).shape[1]
        by.train(training)
        return int(width)

    def seconds(self) -> float:
        """Estimated seconds of the whole stage, all epochs."""
        method, size = self.method, self.size_for(self.n)
        if not is_trained(method) or not method.epochs:
            return 0.0
        plans = plan_passes(method, _Counted(self.n, self.items), None, size, 1)
        count = method.epochs * steps_of(plans)
        # An auto-encoder's decoder costs as much as its backbone.
        step = self.trained_item * size * len(views_of(method)) * (2 if "decoder" in self.net.head_names else 1)
        if step > STAGE_SECONDS:
            return count * step + self.item * self.n
        try:
            seconds, renewal = self._steps(method, plans)
        except Exception:  # some cannot do without what `start` prepares, which may take longer than all steps here
            random = generator_of(self.seed, "forecast", "start")
            start(method, self.net, self.features, self.k, random)
            seconds, renewal = self._steps(method, plans)
        seconds += self.item * self.n  # `start` looks at all items
        every = getattr(method, "refresh_every", None) or getattr(method, "relabel_every", 1) * steps_of(plans)
        if renewal > 0:
            seconds += -(-count // every) * (renewal + self.item * self.n)
        return seconds

    def _steps(self, method: Trained, plans: tuple[PassPlan, ...]) -> tuple[float, float]:
        """Seconds of all epochs' plain steps, `plans` of all items, and of one look at all items beside its step."""
        seconds = renewal = 0.0
        optimisers = optimisers_of(method, self.net)
        self.net.train()
        for plan, whole in zip(self.plans, plans, strict=True):
            plain, renewing = self._times(method, plan, optimisers)
            one = median(plain or renewing)
            seconds += method.epochs * whole.steps * one
            if plain and renewing:
                renewal = max(renewal, (max(renewing) - one) * self.n / len(self.items))
        return seconds, renewal

    def _times(
        self, method: Trained, plan: PassPlan, optimisers: dict[str, torch.optim.Optimizer]
    ) -> tuple[list[float], list[float]]:
        """Seconds of a pass' steps: of plain ones, and of those that looked at all items. The first is left out."""
        together = batches_at_once(self.items.spec, plan.size, self.device)
        wanted = 1 + max(TIMED, together)
        plain: list[float] = []
        renewing: list[float] = []
        first: float | None = None
        clock = begun = self._now()
        asked = self.asked
        with closing(self._batches(method, plan)) as batches:
            for batch in islice(batches, wanted):
                for step in method.step(self.net, batch):
                    losses, names = (step.losses, step.trains) if isinstance(step, Step) else (step, ())
                    self.net.zero_grad(set_to_none=True)
                    torch.stack(list(losses.values())).sum().backward()
                    for name in names or optimisers:
                        optimisers[name].step()
                now = self._now()
                if self.asked > asked:
                    renewing.append(now - clock)
                elif first is None:
                    first = now - clock
                else:
                    plain.append(now - clock)
                asked = self.asked
                if now - begun > STAGE_SECONDS / len(self.plans) and (plain or now - begun > STAGE_SECONDS):
                    break
                clock = now
        if together > 1 and plain:  # many views at once, of which most steps see nothing
            plain = [sum(plain) / len(plain)]
        return plain or ([first] if first is not None else []), renewing

    def _batches(self, method: Trained, plan: PassPlan) -> Generator[Batch, None, None]:
        maker = BatchMaker(method, self.net, self.plans, self.seed, self.family, self.views, self.features)
        for epoch in range(method.epochs):
            random = generator_of(self.seed, "forecast", epoch)
            begin_epoch(method, self.net, EpochStart(epoch, self.features, random))
            yield from islice(batches_of(maker, epoch, plan.before), plan.steps)

    def _cost_of_an_item(self) -> tuple[float, float]:
        """Seconds of one item in evaluation, and of one view of it in training."""
        net, spec = self.net, self.items.spec
        pixels = spec.height * spec.width if spec.kind == "images" else 1
        count = min(len(self.items), chunk_size(spec), max(2, PROBED_PIXELS // pixels))
        x = clean(self.items.take(torch.arange(count)).to(self.device), net)
        net.train()
        first, trained = (self._one_look(x) for _ in range(2))
        begun = self._now()
        net.eval()
        with torch.inference_mode():
            net.backbone(x)
        return (self._now() - begun) / count, min(first, trained) / count

    def _one_look(self, x: Tensor) -> float:
        begun = self._now()
        out = self.net.backbone(x)
        if out.requires_grad:
            out.float().square().mean().backward()
        self.net.zero_grad(set_to_none=True)
        return self._now() - begun

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class _Counted:
    """Items that are only counted, for the number of steps in an epoch."""

    def __init__(self, n: int, items: Items) -> None:
        self.n, self.spec = n, items.spec

    def __len__(self) -> int:
        return self.n

    def take(self, index: Tensor) -> Tensor:
        raise AssertionError("only counted, never taken")
