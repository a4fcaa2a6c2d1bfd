"""Whether a class has the members of a method, by their names and arguments: what `coterie.register` checks.

The engine looks members up by name, so it would silently ignore a misspelt one.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast

import torch

from coterie.contract.card import Card
from coterie.types import InputError

# Member -> the arguments that it is called with, after self. `options` says what each is for.
HOOKS: dict[str, tuple[str, ...]] = {
    "heads": ("net", "k"),
    "optimiser": ("net",),
    "step": ("net", "batch"),
    "logits": ("net", "features"),
    "predict": ("net", "features"),
    "check": ("facts",),
    "limits": ("facts",),
    "start": ("net", "features", "k", "generator"),
    "begin_epoch": ("net", "epoch"),
    "rate": ("progress",),
    "views": (),
    "passes": (),
    "finish": ("net", "features", "k", "generator"),
    "calibrated": (),
    "has_logits": (),
    "found": ("net",),
}
WITH_STEP = ("epochs", "batch_size", "optimiser")
NAMES = (*HOOKS, "card", "epochs", "batch_size", "part_size", "practical")
NEAR = 0.8  # likeness of two names, 0 to 1, from which one is a misspelling of the other


def check_members(kind: type[Any]) -> None:
    """Raise InputError for a class that is no method, or that would not work as one."""
    if not isinstance(kind, type) or not is_dataclass(kind) or not hasattr(kind, "card") or not hasattr(kind, "heads"):
        raise InputError(f"{kind!r:.80} is no method: it takes a frozen dataclass with `card` and `heads`.")
    name = kind.__name__
    if any(setting.name == "card" for setting in fields(kind)):
        raise InputError(f"`card` of {name} counts as a setting: annotate it as ClassVar[Card].")
    if not isinstance(kind.card, Card):
        raise InputError(f"`card` of {name} is a {type(kind.card).__name__}: it takes a coterie.contract.Card.")
    for setting in fields(kind):
        if setting.default is MISSING and setting.default_factory is MISSING:
            raise InputError(f"The setting `{setting.name}` of {name} has no default: give it one.")
    _check_names(kind)
    if not (hasattr(kind, "logits") or hasattr(kind, "predict")):
        raise InputError(f"{name} has neither `logits` nor `predict`: one of them must say the groups.")
    missing = [member for member in WITH_STEP if not hasattr(kind, member)]
    if hasattr(kind, "step") and missing:
        raise InputError(f"{name} has `step`, so it is trained, but it has no {' and no '.join(missing)}.")
    if not hasattr(kind, "step") and hasattr(kind, "optimiser"):
        raise InputError(f"{name} has `optimiser` but no `step`, so nothing would be trained: give it `step`.")


def by_name(method: object, member: str, given: Any, of: str) -> Any:
    """The mapping that a member returned. Raises InputError if it is none; `of` names what it must hold."""
    if isinstance(given, Mapping):
        return given
    what = "nothing" if given is None else f"a {type(given).__name__}"
    raise InputError(f"`{member}` of {type(method).__name__} gave {what}: it must give a mapping, {of}.")


def tensors(method: object, member: str, given: Any, of: str, axes: int) -> dict[str, torch.Tensor]:
    """The tensors of floats with so many axes (0: of one number) that a member returned, by name. Raises InputError."""
    named = by_name(method, member, given, of)
    for name, value in named.items():
        if isinstance(value, torch.Tensor) and (
            value.is_floating_point() and value.ndim == axes if axes else value.numel() == 1
        ):
            continue
        tensor = isinstance(value, torch.Tensor)
        what = (
            f"a tensor of {value.dtype} with the shape {tuple(value.shape)}" if tensor else f"a {type(value).__name__}"
        )
        raise InputError(
            f"`{member}` of {type(method).__name__} gave {name} as {what}: it takes a tensor "
            f"{f'of floats with {axes} axes' if axes else 'of one number'} ({of})."
        )
    return cast(dict[str, torch.Tensor], named)


def _check_names(kind: type[Any]) -> None:
    """Misspelt members, and those that cannot be called as the engine calls them."""
    for member, arguments in HOOKS.items():
        value = getattr(kind, member, None)
        if value is not None and not callable(value):
            raise InputError(
                f"`{member}` of {kind.__name__} is a {type(value).__name__}, but the engine calls it, as "
                f"{member}({', '.join(arguments)}): give a setting another name."
            )
    for member, of in vars(kind).items():
        if not inspect.isfunction(of) or member.startswith("_"):
            continue
        near = difflib.get_close_matches(member, NAMES, 1, NEAR)
        if member in HOOKS:
            _check_arguments(kind, member, of)
        elif near and member not in NAMES and not hasattr(kind, near[0]):
            raise InputError(
                f"`{member}` of {kind.__name__} is called by nothing; did you mean `{near[0]}`? If it is a helper, put "
                "an underscore before its name."
            )


def _check_arguments(kind: type[Any], member: str, function: Any) -> None:
    try:
        inspect.signature(function).bind("self", *HOOKS[member])
    except TypeError as error:
        called = f"{member}({', '.join(HOOKS[member])})"
        raise InputError(
            f"`{member}` of {kind.__name__} does not take what it is called with, {called} ({error})."
        ) from error
