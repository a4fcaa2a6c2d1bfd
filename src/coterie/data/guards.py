"""Cells of a .csv file that a table program would take for a formula get a quote in front, and lose it when read.

See OWASP, "CSV injection". A tab in front instead of a quote was exploited, too (CVE-2021-41270).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(value: Any) -> Any:
    """A text that begins like a formula with a quote in front; everything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def unguarded(value: Any, known: Collection[str]) -> Any:
    """The cell without its quote in front, if it is `known` only without it."""
    if isinstance(value, str) and value not in known and value[:1] == "'" and value[1:].startswith(FORMULA):
        return value[1:] if value[1:] in known else value
    return value
