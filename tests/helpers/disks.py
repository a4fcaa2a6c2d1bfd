"""Small file systems, to fill."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of that size ("4k") at the new folder `place`; skips the test where none can be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tiny file system can only be mounted by root, where the system lets it")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, spare: int = 0) -> Path:
    """A file that takes all that is left of a file system but so many bytes."""
    filler = place / "filler"
    left = os.statvfs(place)
    free = left.f_bavail * left.f_frsize
    assert free < 1 << 28, f"{place} is no small file system: {free} bytes are free"
    filler.write_bytes(b"x" * (free - spare))
    return filler
