"""A preset's settings brought to what the data allow: batches no larger than the items, and the method's own limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

from coterie.contract import Facts, Method, is_trained, limits_of, setting_names
from coterie.types import InputError


def fit_to_data(method: Method, stage: str, given: Mapping[str, Any], facts: Facts, notes: list[str]) -> Method:
    """A preset's settings within what these data allow, with a note on each change. What the user set is never changed.

    Raises InputError for a batch that the user set larger than the data.
    """
    if not is_trained(method):
        return _within_limits(method, stage, given, facts, notes)
    if method.batch_size > facts.n and "batch_size" in given:
        raise InputError(
            f"Setting {stage}.batch_size is {method.batch_size}, but the source has only {facts.n} items: "
            f"use at most {facts.n}."
        )
    before = method.batch_size
    if "batch_size" in setting_names(type(method)) and "batch_size" not in given and before > facts.n:
        method = replace(method, batch_size=facts.n)  # type: ignore[type-var]
    fitted = _within_limits(method, stage, given, facts, notes if method.batch_size == before else [])
    if (size := cast(Any, fitted).batch_size) != before:
        notes.append(f"{stage}: batch_size {before} -> {size}, the number of items.")
    return fitted


def beyond_groups(method: Method, stage: str, chosen: Collection[str] | None, facts: Facts) -> list[str]:
    """A sentence for each setting among those `chosen` (None: all) that looks at more neighbours than a group has."""
    if not facts.k:
        return []
    names = [name for name in method.card.of_one_group if chosen is None or name in chosen]
    drawn = method.card.drawn
    among = facts.n if drawn is None else min(facts.n, getattr(method, drawn))
    found = [(name, getattr(method, name)) for name in names if getattr(method, name) >= among / facts.k]
    of = f" of the {among:,} of {stage}.{drawn}" if among < facts.n else ""
    return [
        f"{stage}.{name} is {value}, and a mean group has {among // facts.k} items{of}: the farther neighbours are of "
        "other groups, and say nothing of its own: take fewer."
        for name, value in found
    ]


def _within_limits(method: Method, stage: str, given: Mapping[str, Any], facts: Facts, notes: list[str]) -> Method:
    """The method, each setting with limits moved to the nearest value within them."""
    changed = {}
    for name, (least, most) in limits_of(method, facts).items():
        value = getattr(method, name)
        fitted = max(least, value if most is None else min(value, most))
        if name not in given and fitted != value:
            changed[name] = fitted
        if name in given and most is not None and value > most:  # where it does harm, the method refuses it by itself
            notes.append(f"{stage}: {name} {value} is more than there can be, and works as {most}.")
    if others := [
        f"{name} {getattr(method, name)} -> {value}" for name, value in changed.items() if name != "batch_size"
    ]:
        notes.append(f"{stage}: {', '.join(others)}, to suit the other settings and {facts.n} items.")
    return replace(method, **changed) if changed else method  # type: ignore[type-var]
