"""Random weights that are overwritten at once, or never looked at: drawn apart from torch, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# What layers begin with. Those of `nn.init` reach a mode as themselves, those that they call do not.
DRAWS = ("rand", "randn", "randint", "randperm", "normal", "uniform_", "normal_", "random_")
LINEAR = ("kaiming_uniform_",)  # what the weights of linear layers and convolutions are drawn by
FILLS = (*LINEAR, "uniform_", "normal_")  # and those of all layers


class OwnDraws(TorchFunctionMode):
    """Within, in this thread, layers draw from a generator of their own; linear ones and convolutions not at all.

    torch has one random state for all threads. A net that is built to be filled from a file would draw from that of a
    fit in another thread, and the fit would give other numbers. The draws of those layers are most of the time that a
    net takes; what their memory holds stays. All others draw, as some draw again until the numbers lie in a range.
    """

    def __init__(self, undrawn: Collection[str] = LINEAR) -> None:
        super().__init__()
        self.undrawn = undrawn
        self.generator = torch.Generator().manual_seed(0)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in self.undrawn:
            return args[0] if args else given["tensor"]
        if name in DRAWS and given.get("generator") is None:
            given["generator"] = self.generator
        return func(*args, **given)


def with_memory(module: nn.Module, device: str) -> nn.Module:
    """A module made of forms alone, with memory to which nothing was written. torch's own way imports SymPy."""
    return module._apply(lambda form: torch.empty(form.shape, dtype=form.dtype, device=device))


@contextmanager
def forms_alone() -> Iterator[None]:
    """Within, in this thread, what is made has a form and no memory.

    Nothing is drawn for it: torch would import its compiler to draw without memory, which takes seconds.
    """
    with torch.device("meta"), OwnDraws(FILLS):
        yield
