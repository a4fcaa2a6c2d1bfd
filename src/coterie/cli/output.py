"""Output that several commands share, for machines and for people, and the check of -o."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from coterie.common.words import counted, limit
from coterie.types import InputError, Skipped

METRICS = ("acc", "nmi", "ari", "ece", "confidence")  # that a person is shown
LISTED = 10  # items left out that are named on the screen


def print_object(value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """The one machine-readable object of --json."""
    print(json.dumps(value, indent=2, default=str))


def run_summary(run: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What every command says of a run in its object: the same names in all of them."""
    source = record.get("source") or {}
    return {
        "run": str(run),
        "data": source.get("name"),
        "method": (record.get("stages") or [{}])[-1].get("name"),
        "n": source.get("n"),
        "k": record.get("n_clusters"),
        "seed": record.get("seed"),
        "seconds": record.get("seconds"),
        "skipped": len(source.get("skipped") or []),
    }


def skipped_items(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    """The items that were left out, for the object of a command."""
    return [{"id": item.id, "reason": item.reason} for item in skipped]


def print_skipped(items: Sequence[Mapping[str, str]], where: str = "") -> None:
    """How many images were left out, and the first of them; nothing where there are none."""
    if not items:
        return
    print(f"{counted(len(items), 'unreadable image was', 'unreadable images were')} left out{where}:")
    for item in items[:LISTED]:
        print(f"  {item['id']}: {item['reason']}")


def percent(share: float) -> str:
    """0.05 -> "5 %", 0.04873 -> "4.87 %", 1.2e-7 -> "0.000012 %"; 0.9999 -> "99.99 %", for it is not all."""
    value = 100 * share
    text = f"{Decimal(f'{value:.3g}'):f}"
    return f"{limit(value, 1, (100.0,)) if text == '100' and value < 100 else text} %"


def check_beside(out: Path, sources: Sequence[str]) -> None:
    """Raise InputError for an -o in a source that is a folder of tables: it would count as one more of them."""
    from coterie.data.folders import is_table_folder

    for source in sources:
        inside = Path(os.path.realpath(out)).parent == Path(os.path.realpath(os.path.expanduser(source)))
        if inside and is_table_folder(Path(source)):
            raise InputError(f"-o {out} would be read as a part of the table {source}: give a place outside of it.")


def check_ending(out: Path, *endings: str) -> None:
    """Raise InputError for a file of -o with another ending."""
    if out.suffix not in endings:
        raise InputError(f"-o {out} must end in {' or '.join(endings)}.")
