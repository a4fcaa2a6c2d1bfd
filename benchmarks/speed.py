"""What the engine costs beside the arithmetic that it cannot avoid: ratios, all measured in one run.

    python benchmarks/speed.py

- views: the contrastive chain at 32×32×3 in batches, beside torchvision's chain on PIL images in a DataLoader of two
  workers (target: at least 6 times as many views a second).
- moco, cdc, pica: a training step through the engine (reading, views, losses, optimiser, logging), beside the bare
  forward and backward passes that it contains, with the same backbone, batch and precision (targets: at most 1.15, 1.25
  and 1.15).
- predict: images a second through `Model.predict`, beside the bare forward (target: at least 0.9).

K-means has its own file, benchmarks/kmeans.py. Data: ten random patterns under noise at Fashion-MNIST's form, 28×28×1,
backbone small-16.
Let nothing else run beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from _measure import seconds, write_results
from PIL import Image
from torch import Tensor

from coterie.networks.features import extract_features
from coterie.prediction.model import Model
from coterie.preparing import Prepared, Watch, prepare
from coterie.stages import build_net
from coterie.training.engine import Stage, train_stage
from coterie.training.history import EpochRecord, History
from coterie.training.plan import RunSettings
from coterie.views import Draw, ViewSettings, make_views

BATCH = 256
PAIRS = 9
CDC_SETTINGS = {"cdc.batch_size": 1000, "cdc.sub_batch": 250, "cdc.cells": 100, "cdc.hidden": 512}


def pixels(n: int, side: int, channels: int) -> np.ndarray:
    """Ten random patterns under noise: pure noise would be stopped as a collapse."""
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 200, (10, side // 4, side // 4, channels)).repeat(4, 1).repeat(4, 2)
    noise = generator.integers(0, 56, (n, side, side, channels))
    return (patterns[generator.integers(0, 10, n)] + noise).astype(np.uint8)


class PilViews(torch.utils.data.Dataset[Tensor]):
    """torchvision's chain with CDC's parameters, one PIL image at a time."""

    def __init__(self, images: np.ndarray) -> None:
        from torchvision import transforms as t

        self.images = [Image.fromarray(image) for image in images]
        self.chain = t.Compose(
            [
                t.RandomResizedCrop(32, (0.08, 1.0), interpolation=t.InterpolationMode.BICUBIC),
                t.RandomApply([t.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                t.RandomGrayscale(0.2),
                t.RandomApply([t.GaussianBlur(13, (0.1, 2.0))], 0.5),
                t.RandomHorizontalFlip(),
                t.ToTensor(),
                t.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        view: Tensor = self.chain(self.images[row])
        return view


def views() -> dict[str, Any]:
    """Views a second: ours in batches, and torchvision's in a two-worker DataLoader (its start-up not counted)."""
    images = pixels(20 * BATCH, 32, 3)
    raw = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    settings, half = ViewSettings(), torch.full((3,), 0.5)
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        for batch in raw.split(BATCH):
            make_views(batch, ["contrastive"], Draw(generator, len(batch)), settings, "photo", half, half)

    loader = torch.utils.data.DataLoader(PilViews(images), BATCH, num_workers=2, persistent_workers=True)

    def theirs() -> Iterator[float]:
        while True:
            batches = iter(loader)
            next(batches)
            begun, seen = time.perf_counter(), 0
            for batch in batches:
                seen += len(batch)
            yield (time.perf_counter() - begun) / seen

    pil = theirs()
    per_view = sorted(next(pil) for _ in range(4))[1]
    own = seconds([ours], repeats=5)[0] / len(images)
    return {
        "views_per_second": round(1 / own),
        "pil_views_per_second": round(1 / per_view),
        "times": round(per_view / own, 2),
    }


class Clock:
    """Stops the time of every step of an epoch, from one end of a step to the next."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.last = 0.0

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.last = time.perf_counter()

    def step(self, losses: dict[str, float] | None) -> None:
        now = time.perf_counter()
        self.times.append(now - self.last)
        self.last = now

    def epoch(self, record: EpochRecord) -> None:
        self.last = time.perf_counter()


def engine_step(prepared: Prepared, epochs: int) -> float:
    """Median seconds of a step through the engine, the first tenth left out."""
    method = prepared.plan.method
    net = build_net(prepared, method, None)
    clock = Clock()
    stage = Stage(
        method,
        prepared.source.items,
        "photo",
        10,
        0,
        prepared.plan.views,
        partial(extract_features, net, prepared.source.items),
        History(None),
        progress=clock,
    )
    train_stage(net, stage)
    kept = sorted(clock.times[len(clock.times) // 10 :])
    return kept[len(kept) // 2]


def step_ratio(
    method: str, batch: int, bare: Callable[[Any, Tensor], None], overrides: dict[str, Any]
) -> dict[str, Any]:
    """The middle one of nine pairs: engine and bare passes take turns, so that a slower moment hits both."""
    settings = RunSettings(10, method, epochs=2, device="cpu", overrides=overrides, calibrate=False)
    engine, passes = [], []
    prepared = prepare(pixels(8 * batch, 28, 1), settings, None, resume=False, watch=Watch())
    prepared.plan.stages[:] = prepared.plan.stages[-1:]
    for _ in range(PAIRS):
        engine.append(engine_step(prepared, 2))
        net = build_net(prepared, prepared.plan.method, None).train()
        x = torch.randn(batch, 1, 28, 28)
        passes.append(seconds([lambda net=net, x=x: bare(net, x)], repeats=12, warm_up=3)[0])
    pairs = sorted((step / alone, step, alone) for step, alone in zip(engine, passes, strict=True))
    ratio, step, alone = pairs[PAIRS // 2]
    return {
        "batch": batch,
        "precision": prepared.precision.name,
        "step_seconds": round(step, 4),
        "bare_seconds": round(alone, 4),
        "ratio": round(ratio, 3),
        "ratios": [round(pair[0], 3) for pair in pairs],
    }


def bare_moco(net: Any, x: Tensor) -> None:
    """Two passes with gradient, two without: backbone and projector."""
    with torch.no_grad():
        for _ in range(2):
            net.key_project(net.key_backbone(x))
    loss = sum(net.project(net.backbone(x)).square().mean() for _ in range(2))
    loss.backward()
    net.zero_grad()


def bare_cdc(net: Any, x: Tensor, part: int = 250) -> None:
    """Two whole passes without gradient, then one with it in sub-batches: backbone and heads."""
    with torch.no_grad():
        z = net.backbone(x)
        net.cluster(z)
        net.calibrate(net.backbone(x))
    for rows in x.split(part):
        (net.cluster(net.backbone(rows)).square().mean() + net.calibrate(z[: len(rows)]).square().mean()).backward()
        net.zero_grad()


def bare_pica(net: Any, x: Tensor) -> None:
    """Originals and their copies, each once with gradient: backbone and the primary head."""
    sum(net.primary(net.backbone(x)).square().mean() for _ in range(2)).backward()
    net.zero_grad()


def predict() -> dict[str, Any]:
    """Images a second: reading, normalising, predicting and collecting, beside the forward pass alone."""
    prepared = prepare(
        pixels(40 * BATCH, 28, 1), RunSettings(10, "cdc", device="cpu"), None, resume=False, watch=Watch()
    )
    net = build_net(prepared, prepared.plan.method, None).eval()
    model = Model(net, prepared.plan.method, 10, "small-16", prepared.source.items.spec, "photo")
    x = torch.randn(BATCH, 1, 28, 28)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(40):
            net.calibrate(net.backbone(x))

    whole, alone = seconds([lambda: model.predict(prepared.source), bare], repeats=7)
    n = 40 * BATCH
    return {
        "images_per_second": round(n / whole),
        "bare_images_per_second": round(n / alone),
        "ratio": round(alone / whole, 3),
    }


def main() -> None:
    results: dict[str, Any] = {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "views": views,
        "moco": lambda: step_ratio("moco", BATCH, bare_moco, {}),
        "cdc": lambda: step_ratio("cdc", 1000, bare_cdc, CDC_SETTINGS),
        "pica": lambda: step_ratio("pica", BATCH, bare_pica, {"pica.batch_size": BATCH, "pica.over": 70}),
        "predict": predict,
    }
    for name, part in parts.items():
        results[name] = part()
        print(name, results[name], flush=True)
    print(write_results("speed", "python benchmarks/speed.py", **results))


if __name__ == "__main__":
    main()
