"""The cache of decoded images: a file of raw uint8 pixels and a JSON file that says what they are.

The pixels are written under a temporary name, renamed when whole, and the JSON comes last, so a cache that a killed
run left half written is never taken for a whole one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import what_helps
from coterie.types import Encoding, InputError, ItemSpec

FORMAT = 2  # of the JSON file; another number is not read
RESERVE = 0.1  # share of the free disk that stays free


@dataclass(frozen=True)
class Stored:
    """What the JSON file holds."""

    spec: ItemSpec
    rows: int
    failures: dict[int, str]  # number of the picture in its source -> why it could not be read
    fingerprint: str
    notes: list[str]


def has_room(cache: Path, size: int) -> bool:
    """Say whether `size` bytes fit on the disk of `cache`; makes the folder, InputError if that fails."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return size <= (1 - RESERVE) * shutil.disk_usage(cache).free
    except OSError as error:
        raise InputError(f"The cache folder {cache} cannot be used ({error.strerror}); choose another one.") from error


def write_pixels(cache: Path, key: str, images: Iterator[NDArray[np.uint8]]) -> int:
    """Write images one after the other; return how many there were. InputError if the disk is full or not writable."""
    rows = 0
    with _whole_or_not(_pixels(cache, key)) as file:
        for image in images:
            file.write(np.ascontiguousarray(image).data)
            rows += 1
    return rows


def write_facts(cache: Path, key: str, stored: Stored) -> None:
    """Write the JSON file that makes the cache valid."""
    with _whole_or_not(_facts(cache, key)) as file:
        file.write(json.dumps({"format": FORMAT, **asdict(stored)}).encode())


@contextmanager
def _whole_or_not(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is written in full and on the disk."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        helps = what_helps(error)
        advice = f"{helps} or choose another folder" if helps else "choose another folder"
        raise InputError(f"The cache {path.parent} cannot be written ({error.strerror}); {advice}.") from error
    finally:
        part.unlink(missing_ok=True)


def find(cache: Path, key: str) -> Stored | None:
    """Return what an earlier run stored under `key`, None if there is nothing whole."""
    try:
        facts = json.loads(_facts(cache, key).read_text(encoding="utf-8"))
        if facts.pop("format") != FORMAT:
            return None
        failures = {int(row): why for row, why in facts.pop("failures").items()}
        spec = facts["spec"] | {"offset": (), "columns": (), "spaces": ()}
        if (said := spec.get("encoding")) is not None:
            spec["encoding"] = Encoding(**said | {"mean": tuple(said["mean"]), "std": tuple(said["std"])})
        stored = Stored(**facts | {"spec": ItemSpec(**spec), "failures": failures})
        size = _pixels(cache, key).stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stored if size == stored.rows * image_bytes(stored.spec) else None


def open_pixels(cache: Path, key: str, rows: int, spec: ItemSpec) -> NDArray[np.uint8]:
    """Map the stored pixels, uint8 (n, c, h, w), read only."""
    return np.memmap(_pixels(cache, key), np.uint8, "r", shape=(rows, spec.channels, spec.height, spec.width))


def image_bytes(spec: ItemSpec) -> int:
    """Bytes of one image, a uint8 for each value."""
    return spec.channels * spec.height * spec.width


def _pixels(cache: Path, key: str) -> Path:
    return cache / f"images-{key}.u8"


def _facts(cache: Path, key: str) -> Path:
    return cache / f"images-{key}.json"
