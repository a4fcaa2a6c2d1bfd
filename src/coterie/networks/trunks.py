"""Backbones by name: each file registers the functions that build its backbones, and there is no central list.

    @trunk("ae", "ae-conv")
    def build_encoder(name: str, spec: ItemSpec) -> nn.Module: ...

Files of `coterie.networks` are found by themselves; a method from outside registers its trunk in its own file.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module

from torch import nn

from coterie.types import InputError, ItemSpec

Builder = Callable[[str, ItemSpec], nn.Module]
_builders: dict[str, Builder] = {}


def check_side(name: str, spec: ItemSpec, least: int) -> None:
    """Raise InputError for images with a side of fewer than `least` pixels, too few for the layers."""
    side = min(spec.height, spec.width)
    if side < least:
        raise InputError(
            f"Backbone {name!r} needs images of at least {least} pixels a side, and these have {side}: take a larger "
            "--image-size, or another --backbone."
        )


def trunk(*names: str) -> Callable[[Builder], Builder]:
    """Register the function that builds the backbones of these names; it gets the name and the form of an item.

    A name that ends with a dash stands for all names with a number after it, as `small-` for `small-16`.

    The module needs `num_features`, the length of its output. Raises ValueError for a name that is taken.
    """

    def register(build: Builder) -> Builder:
        for name in names:
            before = _builders.setdefault(name, build)
            if (before.__module__, before.__qualname__) != (build.__module__, build.__qualname__):
                raise ValueError(f"a backbone called {name!r} is there already")
        return build

    return register


def builder_of(name: str) -> Builder | None:
    """The function that builds the backbone of that name, None where it is not registered."""
    stem = name[: name.rfind("-") + 1]
    if name not in _builders and stem not in _builders:
        own_trunks()
    return _builders.get(name) or _builders.get(stem)


def own_trunks() -> list[str]:
    """The names of all registered backbones; looks through the package's files first."""
    import coterie.networks as package

    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return sorted(_builders)
