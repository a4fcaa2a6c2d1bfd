"""Small runs to export: photos in a folder, with and without a review."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coterie.review import Review
from helpers.exports import NAMES, write_pictures, write_run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_pictures(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> Path:
    """Eight photos in groups 0, 1, 2 of four."""
    write_run(tmp_path / "run", photos, sorted(NAMES), np.arange(len(NAMES)) % 3)
    return tmp_path / "run"


@pytest.fixture
def reviewed(run: Path) -> Path:
    """The same, reviewed: two groups have names, one photo belongs nowhere, half are decided."""
    ids = sorted(NAMES)
    with Review(run) as review:
        review.rename(0, "tabby cat").rename(2, "=1+1").reject([ids[4]])
        for row, group in ((0, 0), (2, 2), (6, 0)):
            review.move([ids[row]], group)
    return run


@pytest.fixture(scope="session")
def coterie() -> Callable[..., tuple[int, str, str]]:
    """Call the command; returns the exit code, standard output and standard error."""
    from coterie.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        return code, out.getvalue(), err.getvalue()

    return call
