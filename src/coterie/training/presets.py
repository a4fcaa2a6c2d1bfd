"""The settings of a preset for a stage: practical ones, or those of a published row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coterie.catalogue import method_class, practical_settings
from coterie.contract import Card, Facts, Reading
from coterie.types import InputError

IMAGE_SIZE = "image_size"  # in a published row: of the source, not of the method


def preset_of(stage: str, preset: str, facts: Facts, source_name: str, *, last: bool) -> dict[str, Any]:
    """The stage's own settings of a preset, without those of its views."""
    if preset == "practical":
        return practical_settings(stage, facts)
    row = published_row(stage, preset, source_name, last=last)
    return {key: value for key, value in row.items() if not key.startswith("views.") and key != IMAGE_SIZE}


def published_row(stage: str, preset: str, source_name: str, *, last: bool) -> Mapping[str, Any]:
    """The settings of a preset but `practical`, views and image size among them. Raises InputError for no such one.

    `last`: the stage is the method itself, which must have a row that is named; a stage before it may have none.
    """
    card = method_class(stage).card
    reading, _, row = preset.partition(":")
    known = {"paper": Reading(card.code, card.presets), "text": card.text if last else card.text or Reading()}
    found, named = known.get(reading), ":" in preset
    if found is not None and (not named or row in found.rows or not last):
        return {**found.settings, **found.rows.get(row if named else source_name, {})}
    *names, final = ["practical", *preset_names(card)]
    raise InputError(f"Unknown preset {preset!r}: use {', '.join(names)} or {final}.")


def unpublished(stage: str, preset: str, source_name: str) -> str | None:
    """What to say of a stage with published rows where there is none of the set, and its defaults are taken."""
    reading, _, row = preset.partition(":")
    rows, row = method_class(stage).card.presets, row or source_name
    if reading != "paper" or not rows or not row or row in rows:
        return None
    return f"{stage} has no published row of {row}, only of {', '.join(rows)}: its defaults are taken."


def preset_names(card: Card) -> list[str]:
    """The presets of a method beside the practical one."""
    texts = [] if card.text is None else ["text", *(f"text:{name}" for name in card.text.rows)]
    return ["paper", *(f"paper:{name}" for name in card.presets), *texts]
