"""How long a stage will take, by a few of its steps on a net that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from statistics import median

import torch
from torch import Tensor

from coterie.methods.contract import Method, name_of, views_of
from coterie.networks.features import chunk_size, clean
from coterie.networks.net import Net
from coterie.training.batches import Taught, batches_at_once, batches_of
from coterie.training.passes import Way, ways_of
from coterie.training.seeds import generator_of
from coterie.types import Batch, Items
from coterie.views.recipes import Family
from coterie.views.settings import ViewSettings

STAGE_SECONDS = 2.0  # of steps that a stage is timed for
TIMED = 3  # steps after the first, which warms up
PROBED_PIXELS = 2**16  # in the first look at what a picture costs


class Timing:
    """One stage on a few of its `n` items, with a net to spoil; `item` is what one costs in evaluation, in seconds."""

    def __init__(
        self, net: Net, method: Method, items: Items, n: int, k: int, seed: int, family: Family, views: ViewSettings
    ) -> None:
        self.net, self.method, self.items, self.n, self.k = net, method, items, n, k
        self.seed, self.family, self.views, self.device = seed, family, views, net.mean.device
        self.ways = ways_of(method, items, None, min(method.batch_size, len(items)), 1)
        self.asked = 0  # how often features of all items were wanted
        random = generator_of(seed, "forecast", name_of(method))
        self.random_features = torch.randn(len(items), net.width, generator=random).to(self.device)
        self.item, self.trained_item = self._cost_of_an_item()

    def features(self, *, half: bool = False) -> Tensor:
        """Stands in for the features of all items, which take long."""
        self.asked += 1
        return self.random_features.clone()

    def seconds(self) -> float:
        """Of the whole stage, all epochs."""
        method, size = self.method, min(self.method.batch_size, self.n)
        if not method.epochs:
            return 0.0
        ways = ways_of(method, _Counted(self.n, self.items), None, size, 1)
        count = method.epochs * sum(way.steps for way in ways)
        # An auto-encoder's decoder costs as much as its backbone.
        step = self.trained_item * size * len(views_of(method)) * (2 if "decoder" in self.net.head_names else 1)
        if step > STAGE_SECONDS:
            return count * step + self.item * self.n
        try:
            seconds, renewal = self._steps(ways)
        except Exception:  # some cannot do without what `start` prepares, which may take longer than all steps here
            random = generator_of(self.seed, "forecast", "start")
            method.start(self.net, self.features, self.k, random)
            seconds, renewal = self._steps(ways)
        seconds += self.item * self.n  # `start` looks at all items
        per_epoch = sum(way.steps for way in ways)
        every = getattr(method, "refresh_every", None) or getattr(method, "relabel_every", 1) * per_epoch
        if renewal > 0:
            seconds += -(-count // every) * (renewal + self.item * self.n)
        return seconds

    def _steps(self, ways: tuple[Way, ...]) -> tuple[float, float]:
        """Seconds of all epochs' plain steps, `ways` of all items, and of one look at all items beside its step."""
        seconds = renewal = 0.0
        optimiser = self.method.optimiser(self.net)
        self.net.train()
        for way, whole in zip(self.ways, ways, strict=True):
            plain, renewing = self._times(way, optimiser)
            one = median(plain or renewing)
            seconds += self.method.epochs * whole.steps * one
            if plain and renewing:
                renewal = max(renewal, (max(renewing) - one) * self.n / len(self.items))
        return seconds, renewal

    def _times(self, way: Way, optimiser: torch.optim.Optimizer) -> tuple[list[float], list[float]]:
        """Seconds of a pass' steps: of plain ones, and of those that looked at all items. The first is left out."""
        together = batches_at_once(self.items.spec, way.size, self.device)
        wanted = 1 + max(TIMED, together)
        plain: list[float] = []
        renewing: list[float] = []
        first: float | None = None
        clock = begun = self._now()
        with closing(self._batches(way)) as batches:
            for batch in islice(batches, wanted):
                asked = self.asked
                for losses in self.method.step(self.net, batch):
                    optimiser.zero_grad(set_to_none=True)
                    torch.stack(list(losses.values())).sum().backward()
                    optimiser.step()
                now = self._now()
                if self.asked > asked:
                    renewing.append(now - clock)
                elif first is None:
                    first = now - clock
                else:
                    plain.append(now - clock)
                if now - begun > STAGE_SECONDS / len(self.ways) and (plain or now - begun > STAGE_SECONDS):
                    break
                clock = now
        if together > 1 and plain:  # many views at once, of which most steps see nothing
            plain = [sum(plain) / len(plain)]
        return plain or ([first] if first is not None else []), renewing

    def _batches(self, way: Way) -> Generator[Batch, None, None]:
        net, method = self.net, self.method
        part = min(method.part_size, method.batch_size, len(self.items))
        taught = Taught(method, part, self.seed, self.family, self.views, net.mean, net.std, self.features)
        for epoch in range(method.epochs):
            yield from islice(batches_of(self.ways, taught, epoch, way.before), way.steps)

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
    """As many items as there are in all, for the steps of an epoch; nobody takes them."""

    def __init__(self, n: int, items: Items) -> None:
        self.n, self.spec = n, items.spec

    def __len__(self) -> int:
        return self.n

    def take(self, index: Tensor) -> Tensor:
        raise AssertionError("only counted, never taken")
