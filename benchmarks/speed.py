"""What the engine costs beside the arithmetic that it cannot avoid: ratios, all measured in one run.

    python benchmarks/speed.py

- views: the contrastive chain at 32×32×3 in batches, beside torchvision's chain on PIL images in a DataLoader of two
  workers (target: at least 6 times as many views a second).
- predict: images a second through `Model.predict`, beside the bare forward (target: at least 0.9).

A training step of each method has its own file, benchmarks/steps.py, and K-means, benchmarks/kmeans.py. Data: ten
random patterns under noise at Fashion-MNIST's form, 28×28×1, backbone small-16. Let nothing else run beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from _measure import seconds, write_results
from PIL import Image
from torch import Tensor

from coterie.prediction.model import Model
from coterie.running.prepared import Watch
from coterie.running.preparing import prepare
from coterie.running.stages import build_net
from coterie.training.plan import RunSettings
from coterie.views import Draw, ViewSettings, make_views

BATCH = 256


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
    parts: dict[str, Callable[[], dict[str, Any]]] = {"views": views, "predict": predict}
    for name, part in parts.items():
        results[name] = part()
        print(name, results[name], flush=True)
    print(write_results("speed", "python benchmarks/speed.py", **results))


if __name__ == "__main__":
    main()
