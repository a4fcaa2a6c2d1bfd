"""`history.jsonl`: a line of JSON for each epoch of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from coterie.records.files import check_plain, is_there, read_text, validated
from coterie.records.run import Count, Entries, Name, Record, Seconds
from coterie.types import InputError

LARGEST = 256 << 20  # bytes: half a million epochs
BINS = 1000

Loose = Annotated[float, Field(allow_inf_nan=True)]  # a run that went wrong tells it in its last lines


class EpochLine(Entries):
    """One epoch, as in `training.history.EpochRecord`."""

    stage: Name
    epoch: Annotated[int, Field(ge=1, le=10**9)] = 1
    epochs: Count = 0
    losses: dict[str, Loose | None] = {}
    health: dict[str, Loose | None] = {}
    seconds: Seconds = 0.0
    items_per_second: Annotated[float, Field(ge=0, allow_inf_nan=True)] = 0.0
    confidence_histogram: Annotated[list[Count], Field(max_length=BINS)] = []


def read_lines(path: Path) -> list[Record]:
    """All epochs; none where there is no file. A last line that a crash cut off is left out.

    Raises InputError for any other line that cannot be read, by its number.
    """
    if not is_there(path):
        return []
    lines = read_text(path, LARGEST).split("\n")
    found: list[Record] = []
    for number, line in enumerate(lines, 1):
        where = f"Line {number} of {path}"
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not any(rest.strip() for rest in lines[number:]):
                break
            raise InputError(f"{where} is damaged: it is no JSON ({error}).") from error
        if isinstance(content, dict):
            check_plain(content, where)
        validated(EpochLine, content, where)
        found.append(content)
    return found
