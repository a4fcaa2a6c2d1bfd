"""What a method must offer to the engine, and the look-up of methods by file name.

A method is a frozen dataclass of its hyperparameters. Everything learned or remembered is a part of the net. To vary a
method, write a new file or wrap one; nothing here is to be inherited from.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.net import Net
from coterie.types import Batch, Features, InputError, ItemSpec, Kind, Losses


@dataclass(frozen=True)
class Reading:
    """A preset that holds for all data: what it has beside the defaults, and the rows of data sets."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """A method's entry in the catalogue: what `coterie methods` shows and what the engine prepares for it."""

    title: str
    paper: str  # authors, title, venue
    year: int
    family: str
    url: str
    views: Mapping[str, str]  # attribute of the batch -> recipe of `views.recipes`
    starts_from: str | None = None  # the method that trains the backbone before
    starts_on: tuple[Kind, ...] = ("images",)  # where it does; for others the backbone is used as it comes
    inherits: tuple[str, ...] = ()  # heads that go on from that stage, or from --init, too
    scaling: Literal["standard", "unit"] = "standard"  # of the data: mean 0 and deviation 1, or values in [0, 1]
    accepts: tuple[Kind, ...] = ("images", "embeddings")
    answers: tuple[str, ...] | None = None  # the heads that prediction needs; None: all of them
    # published rows by data set: the method's settings, views.NAME, image_size
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # what every published row has beside the defaults, where the authors' code does other than the paper's text says
    code: Mapping[str, Any] = field(default_factory=dict)
    text: Reading | None = None  # the preset `text`, the paper's words, where there is code that does otherwise
    # settings with which the method finds the number of groups itself (-k auto); empty: it cannot
    without_k: Mapping[str, Any] = field(default_factory=dict)
    balance: str | None = None  # the setting that weighs a term which draws groups to equal sizes
    backbone: Callable[[ItemSpec, str, bool], str] | None = None  # what `auto` means here: (form, device, as published)


@dataclass(frozen=True)
class Pass:
    """One way through the items within an epoch; a method may have several, each in a random order of its own.

    With `steps`, an epoch is so many batches, and the next one goes on where it ended: in the same order through the
    items until all were seen, then in a new one.
    """

    name: str = ""  # what `batch.turn` says
    extra: bool = False  # goes through the source's extra items, too, where it has some
    keep_last: bool = False  # trains on the incomplete batch at the end, too
    shuffled: bool = True  # else batches are slices of the items in the source's order
    steps: int | None = None  # batches of this pass in an epoch; None: all there are


@dataclass(frozen=True)
class Facts:
    """What a preset may depend on: sizes and forms, never labels."""

    n: int
    k: int  # 0: not known, the method is to find it
    kind: Kind
    device: str
    side: int = 0  # longer side of the images in pixels
    dim: int = 0  # features of the embeddings
    loaded: bool = False  # the backbone begins with weights of timm's or of a file, all of them loaded


def iterations_for(facts: Facts, least: int, most: int) -> dict[str, int]:
    """Epochs and batch size of a practical preset that counts in iterations: a seventh of the items, within bounds."""
    batch = max(2, min(256, facts.n // 4))
    iterations = min(most, max(least, facts.n // 7))
    return {"epochs": max(1, round(iterations / (facts.n // batch))), "batch_size": batch}


@runtime_checkable
class Method(Protocol):
    """The contract. Settings that every method has are read by the engine; all others are its own."""

    card: ClassVar[Card]

    @property
    def epochs(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def part_size(self) -> int:
        """Items in the scope of one optimiser step; the batch size where a batch is one step."""
        ...

    def check(self, facts: Facts) -> None:
        """Raise InputError when these settings cannot work on such data (before any training)."""
        ...

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The parts that are trained or remembered beside the backbone."""
        ...

    def start(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Called once before the first epoch, not when resuming."""
        ...

    def optimiser(self, net: Net) -> torch.optim.Optimizer: ...

    def rate(self, progress: float) -> float:
        """Factor on every learning rate at this share of the training (0 to 1)."""
        ...

    def step(self, net: Net, batch: Batch) -> Iterator[Losses]:
        """Yield the losses of one optimiser step at a time; the engine steps before it asks for the next."""
        ...

    def finish(self, net: Net, features: Features, k: int, generator: torch.Generator) -> None:
        """Called once after the last epoch of the last stage, before prediction."""
        ...

    def predict(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        """Probabilities by head; the first is the answer, the others are reported beside it."""
        ...


@runtime_checkable
class OwnViews(Protocol):
    """A method whose settings decide which views it needs."""

    def views(self) -> Mapping[str, str]:
        """Attribute of the batch -> recipe, in place of the card's."""
        ...


@runtime_checkable
class OwnPasses(Protocol):
    """A method whose epoch is not one pass through the complete batches."""

    def passes(self) -> tuple[Pass, ...]: ...


def views_of(method: Method) -> Mapping[str, str]:
    """The views that a method needs with its settings: attribute of the batch -> recipe."""
    return method.views() if isinstance(method, OwnViews) else method.card.views


def passes_of(method: Method) -> tuple[Pass, ...]:
    """The passes of an epoch of a method, in order."""
    return method.passes() if isinstance(method, OwnPasses) else (Pass(),)


@runtime_checkable
class GivesLogits(Protocol):
    """What a method may offer besides: what it takes the softmax of, for scores that probabilities have lost."""

    def logits(self, net: Net, features: Float[Tensor, "n d"]) -> dict[str, Float[Tensor, "n k"]]:
        """Logits by head, the heads of `predict` in its order; their softmax is what it answers."""
        ...


@runtime_checkable
class OwnCalibration(Protocol):
    """A method whose own answer is calibrated, at least with some of its settings."""

    def calibrated(self) -> bool:
        """Whether the first head of `predict` is taught how far it can be believed."""
        ...


def is_calibrated(method: Method) -> bool:
    """Whether a method's own confidences are calibrated; of all others a calibration head must take the place."""
    return isinstance(method, OwnCalibration) and method.calibrated()


@runtime_checkable
class FindsGroups(Protocol):
    """What a method offers whose card has `without_k`: `heads`, `start` and `finish` get k = 0, then it is asked."""

    def found(self, net: Net) -> tuple[int, str]:
        """The number of groups that `finish` found, and a sentence on it for the user."""
        ...


def method_names() -> list[str]:
    """Every method's name, which is its file's."""
    import coterie.methods as package

    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name != "contract")


def method_class(name: str) -> type[Method]:
    """The settings class of a method. Raises InputError with the nearest known name."""
    known = method_names()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`coterie methods` lists them."
        raise InputError(f"Unknown method {name!r}; {hint}")
    module = import_module(f"coterie.methods.{name}")
    found = [v for v in vars(module).values() if isinstance(v, type) and vars(v).get("card") is module.CARD]
    if len(found) != 1:
        raise TypeError(f"coterie.methods.{name} must define exactly one class whose `card` is its CARD")
    return cast(type[Method], found[0])


def name_of(method: Method) -> str:
    """The command-line name of a method object."""
    return type(method).__module__.rsplit(".", 1)[-1]


def practical_settings(name: str, facts: Facts) -> dict[str, Any]:
    """The practical preset: the paper's settings adapted to the size of the data and the device, never to labels."""
    return dict(import_module(f"coterie.methods.{name}").practical(facts))


def setting_names(method: type[Method]) -> list[str]:
    return [f.name for f in fields(method)]  # type: ignore[arg-type]
