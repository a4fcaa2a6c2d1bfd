"""The look-up of methods by name: the files of `coterie.methods`, and those that others bring.

A method from outside is known once `register` was called with its class, or when an installed package names it under
the entry points `coterie.methods`. Nothing is ever imported because a model folder names it.
"""

from __future__ import annotations

import difflib
import functools
import pkgutil
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from coterie.contract import Facts, Method
from coterie.contract.members import by_name, check_members
from coterie.contract.method import PACKAGE
from coterie.types import InputError

ENTRY_POINTS = "coterie.methods"
_registered: dict[str, type[Method]] = {}


def own_names() -> list[str]:
    """The methods of the package: each has the name of its file."""
    return list(_own_names())


@functools.cache
def _own_names() -> tuple[str, ...]:
    import coterie.methods as package

    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def method_names() -> list[str]:
    """Every method's name, those from outside included."""
    return sorted({*own_names(), *_registered, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def register(kind: type[Any]) -> type[Any]:
    """Make a method that is defined outside the package known, under its class' name in lower case; a decorator, too.

    Raises InputError for what is no method, for a member that is misspelt or takes other arguments than the engine
    gives, and for a name that is taken.

    >>> from dataclasses import dataclass
    >>> from typing import ClassVar
    >>> import numpy as np
    >>> import torch
    >>> from coterie import Clusterer, register
    >>> from coterie.contract import Card
    >>> @register
    ... @dataclass(frozen=True)
    ... class RandomPlanes:  # nothing is trained: an untrained linear layer says the groups
    ...     card: ClassVar[Card] = Card("Random planes", "nobody", 2026, "none", "https://example.org")
    ...
    ...     def heads(self, net, k):
    ...         return {"planes": torch.nn.Linear(net.width, k)}
    ...
    ...     def logits(self, net, features):
    ...         return {"softmax": net.planes(features)}
    >>> points = np.random.default_rng(0).normal(size=(60, 4))
    >>> Clusterer(3, method="randomplanes", calibrate=False, random_state=2).fit(points).labels_.shape
    (60,)
    """
    check_members(kind)
    if kind.__module__.startswith(PACKAGE):
        return kind
    name = kind.__name__.lower()
    if name in _own_names():
        raise InputError(f"A method of coterie is called {name!r}: give the class {kind.__name__} another name.")
    _registered[name] = cast(type[Method], kind)
    return kind


def outside_files() -> set[str]:
    """The files of the methods that are registered from outside."""
    modules = [sys.modules.get(kind.__module__) for kind in _registered.values()]
    return {str(module.__file__) for module in modules if getattr(module, "__file__", None)}  # type: ignore[union-attr]


def method_class(name: str) -> type[Method]:
    """The settings class of a method. Raises InputError with the nearest known name."""
    if name in _registered:
        return _registered[name]
    if name in _own_names():
        return _own_class(name)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            kind = register(point.load())
            if kind.__name__.lower() != name:
                raise InputError(f"The entry point {name!r} names the class {kind.__name__}, which is another name.")
            return cast(type[Method], kind)
    near = difflib.get_close_matches(name.lower(), method_names(), n=1)
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else "`coterie methods` lists them; a method of your own has to be registered with coterie.register first."
    )
    raise InputError(f"Unknown method {name!r}; {hint}")


@functools.cache
def _own_class(name: str) -> type[Method]:
    module = import_module(f"{PACKAGE}{name}")
    found = [v for v in vars(module).values() if isinstance(v, type) and vars(v).get("card") is module.CARD]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define exactly one class whose `card` is its CARD")
    return cast(type[Method], found[0])


def practical_settings(name: str, facts: Facts) -> dict[str, Any]:
    """The practical preset: the paper's settings adapted to the size of the data and the device, never to labels.

    It is the function `practical` of a method's file; one from outside may have it as a static method.
    """
    kind = method_class(name)
    own = import_module(kind.__module__) if kind.__module__.startswith(PACKAGE) else kind
    practical = getattr(own, "practical", None)
    return {} if practical is None else dict(by_name(kind, "practical", practical(facts), "{setting: value}"))
