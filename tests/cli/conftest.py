"""The command, called as a user does but inside this process, and small data for it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_blobs

# Little enough that a run over a hundred images takes a second.
QUICK = (
    *("--backbone", "small-4", "--device", "cpu", "--set", "moco.epochs=1", "--set", "moco.batch_size=24"),
    *("--set", "moco.queue=48", "--set", "cdc.epochs=2", "--set", "cdc.hidden=24"),
    *("--set", "cdc.init=kmeans", "--set", "moco.projector_hidden=32"),
)


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        """Standard output as the one JSON object that it must be."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Coterie = Callable[..., Answer]


@pytest.fixture(scope="session")
def coterie() -> Coterie:
    """Call the command: `coterie("fit", path, "-k", 3)`."""
    from coterie.cli import main

    def call(*arguments: object) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        return Answer(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Options for a small run over images."""
    return QUICK


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 digits with their labels, as .npz."""
    path = tmp_path_factory.mktemp("data") / "pixels.npz"
    digits = load_digits()
    np.savez(path, images=(digits.images[:96] * (255 / 16)).astype(np.uint8), labels=digits.target[:96])
    return path


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 embeddings in three groups, without labels."""
    path = tmp_path_factory.mktemp("data") / "vectors.npy"
    np.save(path, make_blobs(60, n_features=8, centers=3, random_state=0)[0].astype(np.float32))
    return path


@pytest.fixture(scope="session")
def finished(coterie: Coterie, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run over `images`; not to be changed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    answer = coterie("fit", images, "-k", 10, "-o", run, *QUICK)
    assert answer.code == 0, answer.err
    return run


@pytest.fixture(scope="session")
def grouped(coterie: Coterie, vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run over `vectors`; not to be changed."""
    run = tmp_path_factory.mktemp("grouped") / "run"
    answer = coterie("fit", vectors, "-k", 3, "-o", run, "--epochs", 1)
    assert answer.code == 0, answer.err
    return run


@pytest.fixture(autouse=True)
def _shared_runs_stay_as_they_are(request: pytest.FixtureRequest) -> Iterator[None]:
    """Name the test that writes into a run of the session: which others then fail depends on their order."""
    shared = [request.getfixturevalue(name) for name in ("grouped", "finished") if name in request.fixturenames]
    before = [_files(run) for run in shared]
    yield
    assert [_files(run) for run in shared] == before, "this test changed a shared run: let it work on a copy"


def _files(run: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*") if path.is_file()}
