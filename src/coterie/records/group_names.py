"""Names of groups: what a name may be, and where a run keeps those it was given."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coterie.records.files import read_json
from coterie.types import InputError

LONGEST = 80  # characters
MANIFEST_BYTES = 4 << 20
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")  # the direction of what follows

# Shown as nothing, or as a blank: fillers, the empty braille cell, selectors of a sign's form; and all of category Cf.
UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))


def upright(text: str) -> str:
    """The text with every mark that turns the direction as its escape: it would turn the numbers behind a name, too."""
    return TURNING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printed(value: object) -> object:
    """What a template prints of a value: a text upright; markup, and what is no text, as it is."""
    return upright(value) if type(value) is str else value


def checked_name(name: object) -> str:
    """A group's name as it is stored: NFC, without blanks around it. Raises InputError for an invalid name."""
    if not isinstance(name, str):
        raise InputError(f"A group's name is a text, not {repr(name)[:80]}.")
    text = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(text) <= LONGEST:
        raise InputError(f"The name {text[:40]!r} has {len(text)} characters: a group's name has 1 to {LONGEST}.")
    # Cc: control characters; Cs: half a character; line ends, and marks that turn the direction of what follows.
    if TURNING.search(text) or any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in text):
        raise InputError(f"The name {text[:40]!r} has control characters: leave them out.")
    return text


def looks(name: str) -> str:
    """What is seen of a name, to tell names apart: no signs without width, small letters, single blanks.

    >>> looks("Tabby\\u200b  cat"), looks("\\u2060")
    ('tabby cat', '')
    """
    seen = (sign for sign in name.casefold() if not (sign in UNSEEN or unicodedata.category(sign) == "Cf"))
    return " ".join("".join(seen).split())


def check_given(group: int, name: str, others: Mapping[int, str]) -> None:
    """Raise InputError for a name that a group is to be given and that cannot be told from nothing or another's.

    What was given before this was asked is still read: `checked_name` lets it pass.
    """
    if not looks(name):
        raise InputError(f"Nothing is seen of the name {name!a}: give one with letters, digits or signs.")
    if (
        same := next((g for g, other in others.items() if g != group and looks(other) == looks(name)), None)
    ) is not None:
        raise InputError(f"Group {same} is called {name} already: give another name, or merge both.")


def checked_names(names: Mapping[int, Any]) -> dict[int, str]:
    """All names, each of one group only (upper and lower case make no difference). Raises InputError."""
    found = {group: checked_name(name) for group, name in names.items()}
    seen: dict[str, int] = {}
    for group, name in found.items():
        other = seen.setdefault(name.casefold(), group)
        if other != group:
            raise InputError(f"Groups {other} and {group} are both called {name!r}: give each a name of its own.")
    return found


def shown_names(names: Mapping[int, str], n_groups: int) -> dict[int, str]:
    """A name for every group: the given one, else "group 3"; no two are the same."""
    taken = {name.casefold() for name in names.values()}
    found = {}
    for group in range(n_groups):
        name = names.get(group) or f"group {group}"
        while group not in names and name.casefold() in taken:
            name += "'"
        found[group] = name
    return found


def groups_of_model(run: Path) -> tuple[dict[int, str], dict[int, int]]:
    """Group names and merges in the manifest of a run's model, {merged group: its target}. Raises InputError.

    `Clusterer.rename` and `merge_groups` put them there.
    """
    path = run / "model" / "manifest.json"
    if not os.path.lexists(path):
        return {}, {}
    content = read_json(path, MANIFEST_BYTES)
    entries = content if isinstance(content, dict) else {}
    names, merges = entries.get("names") or {}, entries.get("merges") or []
    if not isinstance(names, dict) or not all(group.isdecimal() for group in names):
        raise InputError(f"{path} is damaged: names must say a name for the number of a group.")
    if not isinstance(merges, list) or not all(_is_pair(pair) for pair in merges):
        raise InputError(f"{path} is damaged: merges must be pairs of groups.")
    return checked_names({int(group): name for group, name in names.items()}), dict(merges)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(group) is int for group in pair)
