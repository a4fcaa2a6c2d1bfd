"""Two small models, of embeddings and of pictures, in folders as `coterie predict` takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from coterie.pipeline import run
from coterie.training.plan import RunSettings


@pytest.fixture(scope="session")
def of_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 60 embeddings of 8 numbers."""
    out = tmp_path_factory.mktemp("rows") / "run"
    rng = np.random.default_rng(0)
    data = (3 * rng.normal(size=(3, 8))[np.arange(60) % 3] + rng.normal(size=(60, 8))).astype(np.float32)
    run(data, RunSettings(n_clusters=3, method="kmeans", calibrate=False), out)
    return out


@pytest.fixture(scope="session")
def of_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 64 digits of 8x8 pixels."""
    out = tmp_path_factory.mktemp("pictures") / "run"
    pixels = (load_digits().images[:64] * 255 / 16).astype(np.uint8)
    quick = {"pica.batch_size": 32, "pica.over": 6}
    settings = RunSettings(n_clusters=4, method="pica", backbone="small-4", epochs=1, calibrate=False, overrides=quick)
    run(pixels, settings, out)
    return out
