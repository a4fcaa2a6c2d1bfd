"""Plain values (of a command line, YAML, JSON, Python) -> settings; a wrong one is refused in one sentence."""

from __future__ import annotations

import difflib
import functools
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from coterie.contract import is_trained
from coterie.types import InputError

Settings = TypeVar("Settings")

RUN, ESTIMATOR = "run", "Clusterer"  # whose settings the user knows by options and parameters, not by a stage's name
OPTIONS = (
    *("method", "seed", "epochs", "preset", "init", "pretrain", "calibrate", "backbone", "pretrained", "weights"),
    *("family", "image_size", "device", "precision"),
)
PARAMETERS = {"overrides": "settings", "seed": "random_state"}  # of Clusterer, where it calls them otherwise
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 60, 60

TAKES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "truth_value": "a number",
    "plain_digits": "a number in plain digits",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "none_required": "null",
}
MUST = {
    "greater_than": "be above {gt:,}",
    "greater_than_equal": "be at least {ge:,}",
    "less_than": "be below {lt:,}",
    "less_than_equal": "be at most {le:,}",
    "finite_number": "be finite",
    "int_parsing_size": "have fewer digits",
}


def coerce(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Build a settings dataclass from plain values. Raises InputError that names the setting and the nearest known."""
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    prefix = "" if where in (RUN, ESTIMATOR) else f"{where}."
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}."
            raise InputError(f"Unknown setting {prefix}{shown(name, quotes=False)}; {hint}")
    try:
        found: Settings = _adapter(cast(Any, kind)).validate_python(dict(values))
    except ValidationError as error:
        raise InputError(sentence(error.errors(include_url=False), where)) from error
    return found


@functools.cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)  # to build one takes some milliseconds, and a plan asks for each kind several times


def settings_of(kind: type[Settings], values: Mapping[str, Any], stage: str) -> Settings:
    """A method from plain values; names that a version before had for its settings are understood.

    Raises InputError as `coerce`, and for epochs of a method that takes no steps.
    """
    values = current_names(kind, values, stage)
    if not is_trained(kind) and (epochs := values.pop("epochs", 0)) != 0:
        title = cast(Any, kind).card.title
        raise InputError(f"{stage}.epochs is {shown(epochs)}, but {title} is not trained: leave it out.")
    return coerce(kind, values, stage)


def current_names(
    kind: type[Any], values: Mapping[str, Any], stage: str, notes: list[str] | None = None
) -> dict[str, Any]:
    """A method's settings by the names that they have now, with a note on each that a version before called otherwise.

    Raises InputError for one that is given under both names.
    """
    values = dict(values)
    for old, new in kind.card.renamed.items():
        if old not in values:
            continue
        value = values.pop(old)
        if new is not None and new in values:
            raise InputError(f"{stage}.{old} is called {stage}.{new} now, which is set as well: leave {old} out.")
        if new is not None:
            values[new] = value
        if notes is not None:
            notes.append(f"{stage}.{old} is {f'called {stage}.{new}' if new else 'gone and does nothing'} now.")
    return values


def sentence(errors: Sequence[Any], where: str) -> str:
    """What is wrong with the first wrong setting, in the user's words."""
    first = errors[0]
    setting = str(first["loc"][0])
    ours = [error for error in errors if error["loc"][:1] == first["loc"][:1]]
    # Of a path into the value only places in a list help; the rest are names of the types that were tried.
    place = "".join(f"[{part}]" for part in first["loc"][1:] if isinstance(part, int))
    value = shown(first["input"])
    name = f"Setting {where}.{setting}{place}"
    if where == ESTIMATOR or (where == RUN and setting not in (*OPTIONS, "n_clusters")):
        name = f"{PARAMETERS.get(setting, setting) if where == ESTIMATOR else setting}{place}"
    elif where == RUN:
        name = "-k (n_clusters)" if setting == "n_clusters" else f"--{setting.replace('_', '-')}"
    for error in ours:
        if (must := MUST.get(error["type"])) is not None:
            return f"{name} is {value}: it must {must.format(**error.get('ctx', {}))}."
    if first["type"] in ("tuple_type", "missing", "too_long"):
        return f"{name} is {value}: it takes a list of as many numbers as its default has."
    takes = [TAKES.get(error["type"]) or error.get("ctx", {}).get("expected") for error in ours]
    if None in takes:
        return f"{name} is {value}: {first['msg'][:1].lower()}{first['msg'][1:]}."
    return f"{name} is {value}: it takes {' or '.join(dict.fromkeys(takes))}."


def shown(value: Any, *, quotes: bool = True) -> str:
    """A value as text for a message, of bounded length."""
    if isinstance(value, str) and not quotes:
        return value[:60]
    try:
        return SHORT.repr(value)
    except ValueError:  # Python does not write out whole numbers of thousands of digits
        return f"{type(value).__name__} of thousands of digits"
