"""The folder of a run: what is in it, and `run.yaml`, from which the run can be repeated."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from coterie.records import read_record
from coterie.training.checkpoints import write_atomically
from coterie.types import InputError

# Settings that a resumed run may change: no stage depends on them, and a calibration head comes after all stages.
MAY_CHANGE = {"checkpoint_seconds", "store_embedding", "max_skipped", "calibrate"}


@dataclass
class RunFolder:
    """`path` None keeps a run in memory: the estimator's default. Of several processes only one writes."""

    path: Path | None
    writes: bool = True
    record: dict[str, Any] = field(default_factory=dict)

    def prepare(self, *, resume: bool) -> None:
        """Make the folder, or take it up again. Raises InputError when it may not be used."""
        if self.path is None or not self.writes:
            return
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file: choose another folder with -o.")
        if self.path.exists() and any(self.path.iterdir()):
            if not (self.path / "run.yaml").exists():
                raise InputError(f"{self.path} is not empty and holds no run: choose another folder with -o.")
            if not resume:
                raise InputError(
                    f"{self.path} already holds a run: go on with --resume, or choose another folder with -o."
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The run folder {self.path} cannot be made ({error.strerror}): choose another with -o."
            ) from error
        if not os.access(self.path, os.W_OK):
            raise InputError(
                f"The run folder {self.path} may not be written: change its rights or choose another with -o."
            )
        free = shutil.disk_usage(self.path).free
        if free < 50 << 20:
            raise InputError(
                f"Only {free >> 20} MiB are free where {self.path} lies: free some space or choose another -o."
            )

    def check_same(self, settings: dict[str, Any], fingerprint: str) -> None:
        """A resumed run must be the same run. Raises InputError that names the first difference."""
        if self.path is None or not (self.path / "run.yaml").exists():
            return
        before = read_record(self.path)
        if before.get("source", {}).get("fingerprint") != fingerprint:
            raise InputError(f"The data have changed since {self.path} was begun: start a new run in another folder.")
        for name, value in settings.items():
            if name not in MAY_CHANGE and before.get("settings", {}).get(name) != value:
                raise InputError(
                    f"{self.path} was begun with {name} = {before.get('settings', {}).get(name)!r}, not {value!r}: "
                    "resume it with the same settings, or start a new run in another folder."
                )

    def update(self, **entries: Any) -> None:
        """Add entries to `run.yaml`, which is written whole each time."""
        self.record.update(entries)
        if self.path is not None and self.writes:
            text = yaml.safe_dump(self.record, sort_keys=False, allow_unicode=True, width=120)
            write_atomically(self.path / "run.yaml", text)

    def file(self, *parts: str) -> Path | None:
        return None if self.path is None else self.path.joinpath(*parts)
