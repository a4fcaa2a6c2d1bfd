"""The history of a run: one line of JSON per epoch, which progress bars, checks, reports and apps all read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from coterie.common.outputs import not_written, write_atomically
from coterie.records.history import EpochLine, read_lines


@dataclass
class EpochRecord:
    """One epoch: mean losses, label-free health numbers, seconds of training and items per second."""

    stage: str
    epoch: int  # from 1
    epochs: int
    losses: dict[str, float]
    health: dict[str, float]
    seconds: float
    items_per_second: float
    confidence_histogram: list[int] = field(default_factory=list)  # items in 50 bins of top-1 confidence from 0 to 1


@dataclass
class History:
    """All epochs so far; `path` is the file that follows along (None: in memory only)."""

    path: Path | None
    records: list[EpochRecord] = field(default_factory=list)

    def add(self, record: EpochRecord) -> None:
        """Add an epoch, in the file too. Raises InputError where that cannot be written."""
        self.records.append(record)
        if self.path is not None:
            try:
                with open(self.path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(record)) + "\n")
            except OSError as error:
                raise not_written(self.path, error) from error

    def keep(self, stage: str, epochs: int) -> None:
        """Remove what is newer than a checkpoint: the epochs of `stage` beyond `epochs`, and a half-written line."""
        self.records = [r for r in self.records if r.stage != stage or r.epoch <= epochs]
        if self.path is not None:
            write_atomically(self.path, "".join(json.dumps(asdict(r)) + "\n" for r in self.records))

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(record) for record in self.records]


def read_history(path: Path) -> History:
    """The history of a run folder; a last line that was cut off by a crash is left out. Raises InputError."""
    known = {f.name for f in fields(EpochRecord)}
    lines = [EpochLine.model_validate(line).model_dump() for line in read_lines(path)]
    return History(path, [EpochRecord(**{name: line[name] for name in known}) for line in lines])
