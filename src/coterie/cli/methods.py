"""`coterie methods`: the catalogue."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from coterie.catalogue import method_class, method_names
from coterie.cli.output import print_object
from coterie.cli.speech import Speech
from coterie.training.presets import preset_names


def entry(name: str) -> dict[str, Any]:
    """One method: its paper, its stages, and its settings with the paper's defaults."""
    kind = method_class(name)
    card, stages = kind.card, [name]
    while (before := method_class(stages[0]).card.starts_from) is not None:
        stages.insert(0, before)
    settings = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    return {
        "name": name,
        "title": card.title,
        "paper": card.paper,
        "year": card.year,
        "family": card.family,
        "url": card.url,
        "stages": stages,
        "accepts": list(card.accepts),
        "settings": settings,
        "presets": ["practical", *preset_names(card)],
    }


def show_methods(name: str | None, speech: Speech, *, as_json: bool) -> None:
    """Print one method or all. Raises InputError for an unknown name."""
    entries = [entry(n) for n in ([name] if name is not None else method_names())]
    if as_json:
        print_object(entries)
    elif name is None:
        width = max(len(item["name"]) for item in entries)
        for item in entries:
            stages = " -> ".join(item["stages"])
            print(f"{item['name']:<{width}}  {item['title']} ({item['year']}), {item['family']}; stages {stages}")
        speech.suggest((("methods", "NAME"), "the settings of one"))
    else:
        (item,) = entries
        print(
            f"{item['title']} ({item['year']}). {item['paper']}. {item['url']}\nstages: {' -> '.join(item['stages'])}"
        )
        print(f"presets: {', '.join(item['presets'])}\nsettings (the paper's values; --set {name}.NAME=VALUE):")
        width = max(len(setting) for setting in item["settings"])
        for setting, default in item["settings"].items():
            print(f"  {setting:<{width}}  {default}")
        speech.suggest((("fit", "SOURCE", "-k", "K", "--method", name), "sort items into K groups by this method"))
