"""The two protocols: `Method`, for every method, and `Trained`, for those that take optimiser steps.

Besides, a method answers by `logits` or by `predict`, and may have what `contract.options` lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeGuard, runtime_checkable

from torch import nn
from torch.optim import Optimizer

from coterie.contract.card import Card, Step
from coterie.networks.net import Net
from coterie.types import Batch, Losses

PACKAGE = "coterie.methods."


@runtime_checkable
class Method(Protocol):
    """The core: a frozen dataclass of settings, all with defaults."""

    card: ClassVar[Card]

    def heads(self, net: Net, k: int) -> dict[str, nn.Module]:
        """The parts that are trained or remembered beside the backbone; k is 0 where the method is to find it."""
        ...


@runtime_checkable
class Trained(Method, Protocol):
    """A method that takes steps. Without these members a stage is its `start` and `finish` alone."""

    @property
    def epochs(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def optimiser(self, net: Net) -> Optimizer | Mapping[str, Optimizer]:
        """One optimiser, or several by name; each step then names those that take it."""
        ...

    def step(self, net: Net, batch: Batch) -> Iterator[Losses | Step]:
        """Yield the losses of one optimiser step at a time; the engine steps before it asks for the next."""
        ...


def is_trained(method: object) -> TypeGuard[Trained]:
    """Whether a method (or its class) takes steps."""
    return hasattr(method, "step")


def name_of(method: Method) -> str:
    """The command-line name of a method: its file's, or for one from outside the package its class' in lower case."""
    kind = type(method)
    if kind.card.stage:
        return kind.card.stage
    return kind.__module__.rsplit(".", 1)[-1] if kind.__module__.startswith(PACKAGE) else kind.__name__.lower()


def setting_names(method: type[Any]) -> list[str]:
    """The names of a method's settings, in their order."""
    return [f.name for f in fields(method)]
