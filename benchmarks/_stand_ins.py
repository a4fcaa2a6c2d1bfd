"""What stands in for a card, absent packages and pictures on disk, so that authors' loops run here as they are.

`_authors.py` has the loops.
"""

from __future__ import annotations

import collections.abc
import importlib
import importlib.abc
import importlib.machinery
import itertools
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
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
HIDDEN = 512  # of the heads of CDC, TCL and SPICE


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
    NAMES = (
        "wandb",
        "easydict",
        "cv2",
        "faiss",
        "munkres",
        "torchmetrics",
        "termcolor",
        "torch._six",
        "addict",
        "lmdb",
    )
    NAMES += ("prettytable", "tensorboardX", "torch_clustering", "six")

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
    setattr(torch.cuda, "synchronize", lambda: None)  # noqa: B010


def stand_in(name: str, **members: Any) -> None:
    """A module of this name that has only these members."""
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(members)


def group_of_one() -> None:
    """A group of processes, of which this one is all: what loops for several cards gather from."""
    with tempfile.NamedTemporaryFile() as meeting:
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting.name}", rank=0, world_size=1)


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


def trunk(name: str = BACKBONE) -> Any:
    spec = ItemSpec("images", channels=3, height=SIDE, width=SIDE)
    return build_backbone(name, spec).to(memory_format=torch.channels_last)


class Rounds(Timed):
    """A loader that is begun anew in each round of the loop: keeps the seconds from one round to the next."""

    def __init__(self, loader: Any) -> None:
        super().__init__(loader)
        self.sampler, self.dataset, self.begun = loader.sampler, loader.dataset, list[float]()

    def __iter__(self) -> Iterator[Any]:
        self.begun.append(time.perf_counter())
        return iter(self.loader)

    def ended(self) -> None:
        self.begun.append(time.perf_counter())
        self.times += [later - before for before, later in itertools.pairwise(self.begun)]
        self.begun.clear()


def an_epoch(loader: Timed, run: Callable[[Timed], Any]) -> Callable[[], list[float]]:
    def once() -> list[float]:
        loader.times.clear()
        run(loader)
        return loader.times[WARM:]

    return once


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
