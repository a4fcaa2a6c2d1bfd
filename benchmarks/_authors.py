"""The loops of methods' authors, imported from checkouts of their repositories: what `beside_authors.py` times.

Losses, networks' heads, data sets and training functions are theirs and run as they are. What a script of theirs builds
within its `main`, views and optimiser, is built here with the settings that it states.
"""

from __future__ import annotations

import collections.abc
import importlib
import importlib.abc
import importlib.machinery
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from coterie.networks.backbones import build_backbone
from coterie.types import ItemSpec

SIDE, WARM, GROUPS = 32, 2, 10
BACKBONE, WIDTH = "small-16", 128  # of its features
HIDDEN = 512  # of CDC's heads


class Abview(types.ModuleType):
    """A package that is not installed: whatever is asked of it does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return {"string_classes": (str,), "int_classes": int}.get(name, Nothing)


class Nothing:
    def __init__(self, *args: Any, **settings: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return Nothing


class Absentees(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    NAMES = ("wandb", "easydict", "cv2", "faiss", "munkres", "torchmetrics", "termcolor", "torch._six")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = any(name == one or name.startswith(f"{one}.") for one in self.NAMES)
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Abview(spec.name)

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
    """Pictures in memory as their data sets hand them out: what `give` makes of one and its row."""

    def __init__(self, images: np.ndarray, give: Callable[[Image.Image, int], Any], transform: Any = None) -> None:
        self.images, self.give, self.transform = [Image.fromarray(image) for image in images], give, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        return self.give(self.images[row], row)


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

    return an_epoch(loader_of(Pictures(images, lambda image, row: (transform(image), 0)), 256, workers), epoch)


def their_scan(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    import yaml

    config = importlib.import_module("utils.common_config")
    settings = yaml.safe_load((Path(sys.path[0]) / "configs/scan/scan_cifar10.yml").read_text(encoding="utf-8"))
    transform = config.get_train_transformations(settings)
    pictures = Pictures(images, lambda image, row: {"image": image, "target": 0}, transform)
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
    pictures = Pictures(images, lambda image, row: (image, 0), transform)
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


class Alone(nn.Module):
    """What DistributedDataParallel is to their loop, for one process."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Any) -> Any:
        return self.module(*given)


def view(crop: float, jitter: tuple[float, ...], *more: Any) -> transforms.Compose:
    """A view of photographs: crop of at least this share, colours, what is given; flipped, and normalised by round
    numbers, which cost what the authors' do."""
    parts: list[Any] = [transforms.RandomResizedCrop(SIDE, scale=(crop, 1.0))]
    parts += [transforms.RandomApply([transforms.ColorJitter(*jitter)], p=0.8), transforms.RandomGrayscale(p=0.2)]
    parts += [*more, transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return transforms.Compose([*parts, transforms.Normalize((0.49, 0.48, 0.45), (0.2, 0.2, 0.2))])


def encoder_of(num_classes: int, **settings: Any) -> Any:
    """The trunk with a last layer called `fc`, as torchvision's networks have one."""
    backbone = trunk()
    found = nn.Sequential()
    found.add_module("trunk", backbone)
    found.add_module("fc", nn.Linear(backbone.num_features, num_classes))
    return found


def their_simsiam(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    loader_of_theirs = importlib.import_module("simsiam.loader")
    blur = transforms.RandomApply([loader_of_theirs.GaussianBlur([0.1, 2.0])], p=0.5)
    views = loader_of_theirs.TwoCropsTransform(view(0.2, (0.4, 0.4, 0.4, 0.1), blur))
    model = importlib.import_module("simsiam.builder").SimSiam(encoder_of, 2048, 512)
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    step, args = importlib.import_module("main_simsiam").train, SimpleNamespace(gpu=None, print_freq=10)
    loader = loader_of(Pictures(images, lambda image, row: (views(image), 0)), 256, workers)
    return an_epoch(loader, lambda loader: step(loader, model, nn.CosineSimilarity(dim=1), optimiser, 0, args))


def their_secu(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    own, parts = importlib.import_module("main"), importlib.import_module("secu.loader")
    jitter = (0.4, 0.4, 0.2, 0.1)
    often, seldom = (transforms.RandomApply([parts.GaussianBlur([0.1, 2.0])], p=p) for p in (1.0, 0.1))
    solarised = transforms.RandomApply([parts.Solarize()], p=0.2)
    views = parts.DoubleCropsTransform(view(0.3, jitter, often), view(0.3, jitter, seldom, solarised))
    many = [GROUPS * (1 + number) for number in range(10)]
    model = importlib.import_module("secu.builder").SeCu(encoder_of, many, num_ins=len(images))
    # Its gathering across processes asks for a group of them, of which this one is all.
    with tempfile.NamedTemporaryFile() as meeting:
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting.name}", rank=0, world_size=1)
    model.load_param()
    centres = [value for name, value in model.named_parameters() if "center" in name]
    encoder = [value for name, value in model.named_parameters() if "center" not in name]
    groups = [{"params": encoder, "lr": 0.2}, {"params": centres, "lr": 1.2}]
    optimiser = torch.optim.SGD(groups, weight_decay=1e-4, momentum=0.9)
    asked = {"gpu": None, "print_freq": 100, "secu_tau": 0.2, "secu_num_head": 10, "secu_k": many}
    args = SimpleNamespace(**asked, lr=0.2, clr=1.2, epochs=401)
    scaler, alone, error = torch.amp.GradScaler("cpu", enabled=False), Alone(model), nn.CrossEntropyLoss()
    loader = loader_of(Pictures(images, lambda image, row: (views(image), row)), 128, workers)
    return an_epoch(loader, lambda loader: own.train(loader, alone, error, optimiser, 20, args, scaler))


def their_divclust(images: np.ndarray, workers: int) -> Callable[[], list[float]]:
    import matplotlib

    vars(matplotlib.cbook)["mplDeprecation"] = DeprecationWarning  # by its name in an older matplotlib
    backbone = trunk()
    backbone.output_shape = backbone.num_features
    backbones = importlib.import_module("architectures.backbones")
    vars(backbones)["ours"] = lambda args: backbone
    views = importlib.import_module("data.transforms").CCTransforms(SIDE)
    settings = {"backbone": "ours", "proj_dim": 128, "clusterings": 20, "clusters": GROUPS, "gpu": "cpu"}
    limit = {"NMI_target": 0.9, "NMI_interval": 20, "threshold_rate": 0.99, "divclust_mbank_size": 10_000}
    args = SimpleNamespace(**settings, **limit, clustering_framework="cc", mixed_precision=False, epochs=1000)
    model = importlib.import_module("engine.CC").CC(args)
    optimiser = torch.optim.Adam(model.parameters(), 3e-4)
    trainer = importlib.import_module("engine.trainer").Trainer(model, optimiser, args, Nothing())
    loader = loader_of(Pictures(images, lambda image, row: (0, views(image), 0)), 256, workers)
    return an_epoch(loader, lambda loader: trainer.train_epoch(loader, None, print_interval=0, eval=False))
