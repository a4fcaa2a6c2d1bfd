"""Settings that the user gave and that do nothing in this run, or let nothing be done; they are said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, cast

import torch

from coterie.contract import Method, OnlyIf, is_trained, name_of, views_of
from coterie.types import Source
from coterie.views.recipes import settings_read
from coterie.views.settings import without_effect

if TYPE_CHECKING:
    from coterie.training.plan import Plan, RunSettings

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
        if _is_taught(method):
            said += at_rest(stage, method, given.get(stage, ()))
    return said


def at_rest(stage: str, settings: Any, given: Iterable[str]) -> list[str]:
    """A sentence for each rate among those that the user gave at which nothing moves: such a run ends as it began."""
    rates = [name for name in given if name.endswith("_rate")]
    still = [(name, rate) for name in rates if (rate := getattr(settings, name)) is not None and rate < TRIFLE]
    return [f"{stage}.{name} is {rate:g}: what it is the rate of stays as it was." for name, rate in sorted(still)]


def unheeded(plan: Plan, settings: RunSettings, source: Source, *, own_values: bool) -> list[str]:
    """What to say of all options and settings that the user gave and that change nothing for such items.

    own_values: the items' own values are grouped, and no features of a backbone.
    """
    kind = source.items.spec.kind
    unused = without_effect(plan.views_given, kind, source.family)
    options = [f"--set views.{name}" for name in unused]
    if kind == "embeddings":
        given = {"--image-size": settings.image_size is not None, "--family": settings.family != "auto"}
        options = [option for option, said in given.items() if said] + options
    what = "embeddings" if kind == "embeddings" else "letters or signs" if source.family == "glyph" else "photographs"
    said = [f"Without effect on {what}: {', '.join(options)}."] if options else []
    if not any(map(_is_taught, plan.stages)):  # then items are scaled at the most
        others = sorted(plan.views_given.difference(unused, ("row_norm", "enlarge")))
        options = [f"--set views.{name}" for name in others]
        said += [f"Without effect where nothing is trained: {', '.join(options)}."] if options else []
    elif others := sorted(plan.views_given.difference(unused)):
        said += _unread(plan, source, others)
    values = "" if plan.views.row_norm == "none" else "rows that were scaled one by one (views.row_norm)"
    values = values if own_values else "the features of a backbone"
    said += idle(plan.stages, plan.given, "vector" if kind == "embeddings" else source.family, values)
    return said + at_rest("calibrate", plan.calibration, plan.calibration_given) if plan.calibration else said


def _unread(plan: Plan, source: Source, names: list[str]) -> list[str]:
    """What to say of those of these settings of views that no view of the run's stages asks for."""
    trained = [stage for stage in plan.stages if _is_taught(stage)]
    views = [view for stage in trained for view in views_of(stage).values()]
    few = source.items.take(torch.arange(min(2, len(source.items)), device="cpu"))
    read = settings_read(few, views, plan.views, source.family, plan.views_given)
    if source.family == "photo" and any(stage.card.looks_at == "centre" for stage in plan.stages):
        read["enlarge"] = ""
    beside = {name: f" (beside {why})" if (why := read.get(name)) else "" for name in names if read.get(name, "idle")}
    options = [f"--set views.{name}{why}" for name, why in beside.items()]
    where = " and ".join(map(name_of, trained))
    return [f"Without effect on the views of {where}: {', '.join(options)}."] if options else []


def _is_taught(method: Method) -> bool:
    """Whether the stage takes steps in this run."""
    return is_trained(method) and method.epochs > 0
