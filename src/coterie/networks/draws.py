"""Random weights that are overwritten at once, or never looked at: drawn apart from torch, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What layers begin with. Those of `nn.init` reach a mode as themselves, those that they call do not.
DRAWS = ("rand", "randn", "randint", "randperm", "normal", "uniform_", "normal_", "random_")

FILLS = ("kaiming_uniform_", "uniform_", "normal_")  # what layers' weights are drawn by


class OwnDraws(TorchFunctionMode):
    """Within, in this thread, layers draw from a generator of their own; linear ones and convolutions not at all.

    torch has one random state for all threads. A net that is built to be filled from a file would draw from that of a
    fit in another thread, and the fit would give other numbers. The draws of those layers are most of the time that a
    net takes; what their memory holds stays. All others draw, as some draw again until the numbers lie in a range.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "kaiming_uniform_":
            return args[0] if args else given["tensor"]
        if name in DRAWS and given.get("generator") is None:
            given["generator"] = self.generator
        return func(*args, **given)


@contextmanager
def forms_alone() -> Iterator[None]:
    """Within, in this thread, what is made has a form and no memory."""
    with torch.device("meta"), _NoFills():
        yield


class _NoFills(TorchFunctionMode):
    """Nothing is drawn for weights without memory: torch would import its compiler for it, which takes seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__name__", "") in FILLS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
