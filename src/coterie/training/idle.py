"""Settings that the user gave and that do nothing in this run, or let nothing be done; they are said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, cast

from coterie.contract import Method, OnlyIf, is_trained, name_of

TRIFLE = 1e-12  # weights of ordinary size do not change in float32 by steps at a rate below it


def chosen(method: Method) -> frozenset[str]:
    """The settings of a ready-made method that are not its defaults."""
    found = fields(cast(Any, method))
    return frozenset(f.name for f in found if f.default is MISSING or getattr(method, f.name) != f.default)


def broken(method: Method) -> list[OnlyIf]:
    """The conditions of settings that are not met beside the method's other settings."""
    return [one for one in method.card.only_if if not one.holds(*(getattr(method, name) for name in one.others))]


def idle(stages: Sequence[Method], given: Mapping[str, frozenset[str]], family: str, values: str = "") -> list[str]:
    """A sentence for each reason why settings among those that the user gave, by stage, do nothing.

    `values`: what is grouped, where that is not the items' own values.
    """
    said = []
    for method in stages:
        stage, card = name_of(method), method.card
        reasons: list[tuple[Iterable[str], str]] = []
        for one in broken(method):
            values_of = {name: getattr(method, name) for name in one.others}
            shown = [value if isinstance(value, str) else json.dumps(value) for value in values_of.values()]
            beside = [f"{stage}.{name}={text}" for name, text in zip(values_of, shown, strict=True)]
            reasons.append((one.settings, f"with {' and '.join(beside)}"))
        if family != "photo":
            reasons.append((card.of_photographs, f"on {'letters or signs' if family == 'glyph' else 'embeddings'}"))
        if values:
            reasons.append((card.of_own_values, f"on {values}"))
        if method is not stages[-1]:
            reasons.append((card.of_the_last, f"where {name_of(stages[-1])} comes after {stage}"))
        for settings, why in reasons:
            if unused := [f"{stage}.{name}" for name in settings if name in given.get(stage, ())]:
                said.append(f"{' and '.join(unused)} {'have' if unused[1:] else 'has'} no effect {why}.")
        if is_trained(method) and method.epochs:
            said += at_rest(stage, method, given.get(stage, ()))
    return said


def at_rest(stage: str, settings: Any, given: Iterable[str]) -> list[str]:
    """A sentence for each rate among those that the user gave at which nothing moves: such a run ends as it began."""
    rates = [name for name in given if name.endswith("_rate")]
    still = [(name, rate) for name in rates if (rate := getattr(settings, name)) is not None and rate < TRIFLE]
    return [f"{stage}.{name} is {rate:g}: what it is the rate of stays as it was." for name, rate in sorted(still)]
