"""Whether a class has the members of a method, by their names and arguments: what `coterie.register` checks.

The engine looks members up by name, so it would silently ignore a misspelt one.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, cast, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError

from coterie.contract.card import Card, View
from coterie.types import Batch, InputError
from coterie.views.recipes import RECIPES

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
BATCH = {  # what `batch.NAME` is already
    *(name for name in dir(Batch) if not name.startswith("_")),
    *("index", "views", "part_size", "share", "progress", "generator", "pass_name", "partners", "number", "per_epoch"),
    *("ended", "logged", "counts", "histogram"),
}
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
    if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise InputError(f"The settings of {name} can be changed: write @dataclass(frozen=True).")
    _check_settings(kind)
    _check_card(kind)
    _check_names(kind)
    if not (hasattr(kind, "logits") or hasattr(kind, "predict")):
        raise InputError(f"{name} has neither `logits` nor `predict`: one of them must say the groups.")
    missing = [member for member in WITH_STEP if not hasattr(kind, member)]
    if hasattr(kind, "step") and missing:
        raise InputError(f"{name} has `step`, so it is trained, but it has no {' and no '.join(missing)}.")
    if not hasattr(kind, "step") and hasattr(kind, "optimiser"):
        raise InputError(f"{name} has `optimiser` but no `step`, so nothing would be trained: give it `step`.")


def _check_settings(kind: type[Any]) -> None:
    """Settings without a default, those that no record can hold, and sizes of a training that cannot be."""
    for setting in fields(kind):
        if setting.default is MISSING and setting.default_factory is MISSING:
            raise InputError(f"The setting `{setting.name}` of {kind.__name__} has no default: give it one.")
        default = setting.default if setting.default_factory is MISSING else setting.default_factory()
        if not _plain(default):
            raise InputError(
                f"The setting `{setting.name}` of {kind.__name__} is a {type(default).__name__}, which no record can "
                "hold: take numbers, texts, and lists of them."
            )
    for name, least in (("epochs", 0), ("batch_size", 1)):
        size = getattr(kind, name, least)
        if not isinstance(size, property) and (not isinstance(size, int) or size < least):
            raise InputError(f"`{name}` of {kind.__name__} is {size!r}: it takes a whole number of at least {least}.")


def _plain(value: Any) -> bool:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return all(_plain(one) for one in (*value, *value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(_plain(one) for one in value)
    return value is None or isinstance(value, bool | int | float | str)


@functools.cache
def _card_types() -> dict[str, Any]:
    types = get_type_hints(Card)
    return {entry.name: TypeAdapter(types[entry.name]) for entry in fields(Card)}


def _check_card(kind: type[Any]) -> None:
    """Entries of the card that are not of their types, or that name what the class does not have."""
    card, name = kind.card, kind.__name__
    check_views(kind, card.views)
    for entry in fields(Card):
        value = getattr(card, entry.name)
        try:
            _card_types()[entry.name].validate_python(value)
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"]
            raise InputError(
                f"`card.{entry.name}` of {name} is {value!r:.80}: {said[:1].lower()}{said[1:]}."
            ) from error
    named = {
        "balance": [] if card.balance is None else [card.balance],
        "only_if": [setting for one in card.only_if for setting in (*one.others, *one.settings)],
        "of_photographs": card.of_photographs,
        "of_the_last": card.of_the_last,
        "of_own_values": card.of_own_values,
        "of_one_group": card.of_one_group,
        "drawn": [] if card.drawn is None else [card.drawn],
    }
    known = [setting.name for setting in fields(kind)]
    for entry_name, settings in named.items():
        if unknown := [setting for setting in settings if setting not in known]:
            raise InputError(f"`card.{entry_name}` of {name} names {unknown[0]!r}, which is no setting of it.")
    if card.starts_from == name.lower():
        raise InputError(f"`card.starts_from` of {name} is {card.starts_from!r}, which is the method itself.")


def check_views(kind: type[Any], views: Any) -> None:
    """Raise InputError for views that are not by name, or of a recipe that is not known."""
    if not isinstance(views, Mapping):
        raise InputError(
            f"The views of {kind.__name__} are a {type(views).__name__}: they are a mapping, {{name: view}}."
        )
    for name, view in views.items():
        if name in BATCH:
            raise InputError(f"A view of {kind.__name__} has the name {name!r}, which a batch has for something else.")
        recipe = view.recipe if isinstance(view, View) else view
        if not isinstance(recipe, Mapping) and recipe not in RECIPES:
            raise InputError(
                f"The view {name!r} of {kind.__name__} is {recipe!r}: known views are {', '.join(RECIPES)}; a View may "
                "have a recipe of its own."
            )


def numbers(method: object, member: str, given: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Numbers to record, as tensors of one element without gradient. Raises InputError for what is no number."""
    found = {name: torch.tensor(float(v)) if isinstance(v, int | float) else v for name, v in given.items()}
    return {name: value.detach() for name, value in tensors(method, member, found, "{name: number}", 0).items()}


def by_name(method: object, member: str, given: Any, of: str) -> Any:
    """The mapping that a member returned. Raises InputError if it is none; `of` names what it must hold."""
    if isinstance(given, Mapping):
        return given
    raise gave(method, member, given, f"a mapping, {of}")


def gave(method: object, member: str, given: Any, takes: str) -> InputError:
    """The error for a member that returned something else than it must."""
    what = (
        "nothing" if given is None else repr(given) if isinstance(given, float | str) else f"a {type(given).__name__}"
    )
    kind = method if isinstance(method, type) else type(method)
    return InputError(f"`{member}` of {kind.__name__} gave {what}: it must give {takes}.")


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
    practical = inspect.getattr_static(kind, "practical", None)
    if inspect.isfunction(practical):
        raise InputError(f"`practical` of {kind.__name__} is called without an object: make it a @staticmethod.")
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
