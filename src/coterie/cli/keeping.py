"""What a command found out about a finished run goes into its folder; where it cannot, it is printed all the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from coterie.common.outputs import NotWritten


@dataclass
class Keeping:
    """What of the numbers could be written into the run: a place that takes none costs nobody the numbers."""

    run: Path
    kept: dict[str, Path] = field(default_factory=dict)  # by name
    lost: str | None = None  # why something was not kept

    def __post_init__(self) -> None:
        if not os.access(self.run, os.W_OK):
            self.lost = f"{self.run} may not be written: these numbers are printed and not kept."

    def keep(self, name: str, write: Callable[[], object]) -> None:
        """Write a file of the run by `write`, unless one before it could not be written."""
        if self.lost is not None:
            return
        try:
            write()
            self.kept[name] = self.run / name
        except NotWritten as error:
            self.lost = f"{error} The numbers are printed all the same."

    def say(self) -> None:
        """Say what was not kept."""
        if self.lost is not None:
            print(self.lost, file=sys.stderr)
