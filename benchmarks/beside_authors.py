"""A training step beside the authors' own loop: the same trunk, pictures and batch, in turns on the same cores.

    python benchmarks/beside_authors.py --cc PATH --scan PATH --cdc PATH

Each PATH is a checkout of the authors' repository (github.com/Yunfan-Li/Contrastive-Clustering,
github.com/wvangansbeke/Unsupervised-Classification, github.com/ChengJianH/CDC). Its training function, losses, views
and settings for CIFAR-10 are imported from there and run as they are, on pictures that its DataLoader reads from
memory; only what needs a card is sent to the processor, the backbone is coterie's, and packages that the loop does not
use (logging, plots) may be absent. Ours is the engine with the same batch and backbone, in float32 and in the precision
that it takes by itself. Seconds are those from one batch to the next, without an epoch's first two; the middle of three
turns is told. Data: ten random patterns under noise, 32×32×3. Each loop runs in a process of its own. Let nothing else
run beside it. Writes benchmarks/results/beside_authors.json; what is not given a PATH is "not run".
"""

from __future__ import annotations

import argparse
import collections.abc
import importlib
import importlib.abc
import importlib.machinery
import json
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import in_a_process, write_results
from PIL import Image
from speed import pixels
from steps import Clock, train, untrained
from torch import nn

from coterie.networks.backbones import build_backbone
from coterie.preparing import Watch, prepare
from coterie.training.device import Precision
from coterie.training.plan import RunSettings
from coterie.types import ItemSpec

TURNS, SIDE, WARM, GROUPS = 3, 32, 2, 10
BACKBONE = "small-16"
CELLS, PART, HIDDEN = 500, 500, 512  # of CDC's CIFAR-10 row


class Absent(types.ModuleType):
    """A package that is not installed: whatever is asked of it does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return {"string_classes": (str,), "int_classes": int}.get(name, Nothing)


class Nothing:
    def __init__(self, *args: Any, **settings: Any) -> None: ...


class Absentees(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    NAMES = ("wandb", "easydict", "cv2", "faiss", "munkres", "torchmetrics", "torch._six")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = any(name == one or name.startswith(f"{one}.") for one in self.NAMES)
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...


def without_a_card(checkout: Path) -> None:
    """Import from the checkout; `.cuda()` leaves things where they are."""
    sys.path.insert(0, str(checkout))
    sys.meta_path.append(Absentees())
    to = torch.Tensor.to
    for name in ("Mapping", "Sequence"):  # where an older Python had them
        setattr(collections, name, getattr(collections.abc, name))

    def stay(self: Any, *args: Any, **settings: Any) -> Any:
        return self

    def to_processor(self: torch.Tensor, *args: Any, **settings: Any) -> torch.Tensor:
        found: torch.Tensor = self if args[:1] == ("cuda",) else to(self, *args, **settings)
        return found

    setattr(torch.Tensor, "cuda", stay)  # noqa: B010
    setattr(torch.Tensor, "to", to_processor)  # noqa: B010


class Pictures(torch.utils.data.Dataset[Any]):
    """Pictures in memory as their data sets hand them out."""

    def __init__(self, images: np.ndarray, give: Callable[[Image.Image], Any], transform: Any = None) -> None:
        self.images, self.give, self.transform = [Image.fromarray(image) for image in images], give, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.give(self.images[row])


class Timed:
    """A loader that keeps the seconds from one batch to the next."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.times = loader, list[float]()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        last = None
        for batch in self.loader:
            if last is not None:
                self.times.append(time.perf_counter() - last)
            last = time.perf_counter()
            yield batch
        if last is not None:
            self.times.append(time.perf_counter() - last)


@dataclass(frozen=True)
class Contest:
    """A method, its batch, how many batches an epoch has, and what makes one epoch of the authors' loop."""

    method: str
    batch: int
    batches: int
    theirs: Callable[[np.ndarray, int], Callable[[], list[float]]]
    overrides: dict[str, Any]


def loader_of(data: Any, batch: int, workers: int, collate: Any = None) -> Timed:
    return Timed(
        torch.utils.data.DataLoader(data, batch, shuffle=True, num_workers=workers, drop_last=True, collate_fn=collate)
    )


def trunk() -> Any:
    spec = ItemSpec("images", channels=3, height=SIDE, width=SIDE)
    return build_backbone(BACKBONE, spec).to(memory_format=torch.channels_last)


def an_epoch(loader: Timed, run: Callable[[Timed], Any]) -> Callable[[], list[float]]:
    def once() -> list[float]:
        loader.times.clear()
        run(loader)
        return loader.times[WARM:]

    return once


def their_cc(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    transform = importlib.import_module("modules.transform").Transforms(size=SIDE, s=0.5)
    losses, network = importlib.import_module("modules.contrastive_loss"), importlib.import_module("modules.network")
    own = importlib.import_module("train")
    backbone = trunk()
    backbone.rep_dim = backbone.num_features
    vars(own)["model"] = model = network.Network(backbone, 128, GROUPS)
    vars(own)["optimizer"] = torch.optim.Adam(model.parameters(), lr=3e-4, weight_decay=0.0)
    vars(own)["criterion_instance"] = losses.InstanceLoss(256, 0.5, torch.device("cpu"))
    vars(own)["criterion_cluster"] = losses.ClusterLoss(GROUPS, 1.0, torch.device("cpu"))

    def epoch(loader: Timed) -> None:
        vars(own)["data_loader"] = loader
        own.train()

    return an_epoch(loader_of(Pictures(images, lambda image: (transform(image), 0)), 256, workers), epoch)


def their_scan(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    import yaml

    config = importlib.import_module("utils.common_config")
    settings = yaml.safe_load((Path(sys.path[0]) / "configs/scan/scan_cifar10.yml").read_text(encoding="utf-8"))
    transform = config.get_train_transformations(settings)
    pictures = Pictures(images, lambda image: {"image": image, "target": 0}, transform)
    neighbours = np.random.default_rng(0).integers(0, len(images), (len(images), settings["num_neighbors"] + 1))
    data = importlib.import_module("data.custom_dataset").NeighborsDataset(pictures, neighbours)
    backbone = trunk()
    models = importlib.import_module("models.models")
    model = models.ClusteringModel({"backbone": backbone, "dim": backbone.num_features}, GROUPS)
    loss = importlib.import_module("losses.losses").SCANLoss(**settings["criterion_kwargs"])
    optimiser = torch.optim.Adam(model.parameters(), **settings["optimizer_kwargs"])
    step = importlib.import_module("utils.train_utils").scan_train
    loader = loader_of(data, settings["batch_size"], workers)
    return an_epoch(loader, lambda loader: step(loader, model, loss, optimiser, 0))


def their_cdc(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    import yaml

    args = importlib.import_module("cdc.args")
    row = next((Path(sys.path[0]) / "scripts/cdc/cifar10").glob("*.yaml"))
    settings = yaml.safe_load(row.read_text(encoding="utf-8"))
    chosen = {"val": args.get_val_transformations, "standard": args.get_standard_transformations}
    transform = {name: make(settings) for name, make in chosen.items()}
    transform["augment"] = args.get_strong_transformations(settings)
    pictures = Pictures(images, lambda image: (image, 0), transform)
    data = importlib.import_module("cdc.data.custom_dataset").AugmentedDataset(pictures)
    models = importlib.import_module("cdc.backbones.models")
    model, calibrated, backbone = models.ClusteringModel(settings), models.CaliMLP(settings), trunk()

    def head() -> nn.Sequential:
        first, norm = nn.Linear(backbone.num_features, HIDDEN), nn.BatchNorm1d(HIDDEN)
        return nn.Sequential(first, norm, nn.ReLU(inplace=True), nn.Linear(HIDDEN, GROUPS))

    model.backbone, model.cluster_head, calibrated.calibration_head = backbone, nn.ModuleList([head()]), head()
    rates = settings["optimizer"]
    groups = [{"params": backbone.parameters(), "lr": rates["elr"]}, {"params": model.cluster_head.parameters()}]
    all_of_it = torch.optim.Adam(groups, lr=rates["lr"])
    head_of_it = torch.optim.Adam(calibrated.parameters(), lr=rates["lr"])
    step = importlib.import_module("cdc.methods.calibrate_train").train_cali
    loader = loader_of(data, rates["batch_size"], workers, args.collate_custom)
    return an_epoch(loader, lambda loader: step(settings, loader, calibrated, model, head_of_it, all_of_it, 0, 0))


CDC_ROW = {"cdc.cells": CELLS, "cdc.batch_size": 1000, "cdc.sub_batch": PART}
CONTESTS = {
    "cc": Contest("cc", 256, 12, their_cc, {"cc.batch_size": 256}),
    "scan": Contest("scan", 128, 16, their_scan, {"scan.batch_size": 128}),
    "cdc": Contest("cdc", 1000, 5, their_cdc, CDC_ROW | {"cdc.hidden": HIDDEN}),
}


def ours(contest: Contest, images: np.ndarray, precision: Precision) -> tuple[Callable[[], list[float]], str]:
    """Seconds of the steps of an epoch of the engine, and its precision."""
    settings = RunSettings(
        GROUPS,
        contest.method,
        epochs=1,
        device="cpu",
        backbone=BACKBONE,
        precision=precision,
        family="photo",
        overrides=contest.overrides,
        calibrate=False,
    )
    prepared = prepare(images, settings, None, resume=False, watch=Watch())

    def once() -> list[float]:
        clock = Clock()
        train(prepared, untrained(prepared), clock)
        return clock.times[WARM:]

    return once, prepared.precision.name


def measure(name: str, checkout: Path, workers: int) -> dict[str, Any]:
    contest = CONTESTS[name]
    images = pixels(contest.batch * contest.batches, SIDE, 3)
    precisions: tuple[Precision, ...] = ("fp32", "auto")
    own = {precision: ours(contest, images, precision) for precision in precisions}
    without_a_card(checkout)
    runs = {"authors": contest.theirs(images, workers)} | {key: run for key, (run, _) in own.items()}
    times: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(TURNS):
        for key, run in runs.items():
            times[key].append(statistics.mean(run()))
    step = {key: statistics.median(found) for key, found in times.items()}
    return {
        "batch": contest.batch,
        "backbone": BACKBONE,
        "workers_of_theirs": workers,
        "authors_seconds": round(step["authors"], 4),
        "seconds_float32": round(step["fp32"], 4),
        "seconds": round(step["auto"], 4),
        "precision": own["auto"][1],
        "times_faster_float32": round(step["authors"] / step["fp32"], 2),
        "times_faster": round(step["authors"] / step["auto"], 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in CONTESTS:
        options.add_argument(f"--{name}", type=Path, metavar="PATH", help="checkout of its authors' repository")
    options.add_argument("--workers", type=int, default=2, help="processes that read for their loop")
    options.add_argument("--limit", type=float, default=1800.0, help="seconds for each")
    options.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        name, checkout, workers = given.one
        found = measure(name, Path(checkout), int(workers))
        print()
        print(json.dumps(found))
        return
    methods: dict[str, Any] = {}
    for name in CONTESTS:
        checkout = getattr(given, name)
        words = [name, str(checkout), str(given.workers)]
        methods[name] = {"status": "not run"} if checkout is None else in_a_process(__file__, words, given.limit)
        print(name, methods[name], flush=True)
    asked = [f"--{name} PATH" for name in CONTESTS if getattr(given, name) is not None]
    command = " ".join(["python benchmarks/beside_authors.py", *asked, f"--workers {given.workers}"])
    print(write_results("beside_authors", command, methods=methods))


if __name__ == "__main__":
    main()
