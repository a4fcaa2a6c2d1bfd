"""A small net of timm's with random weights in a file: an encoder like any other, and quick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coterie.encoders import store
from helpers.encoder_weights import random_weights

SMALL = "test_vit"  # timm's own for tests: 0.4 million parameters, 160 px


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file of SMALL's weights."""
    return random_weights(tmp_path_factory.mktemp("weights"), SMALL)


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """A smooth picture in colour, as JPEG likes them."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty pictures of two sizes."""
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for seed in range(40):
        picture(seed, 48 + 16 * (seed % 2)).save(folder / ("b" if seed > 30 else ".") / f"{seed:02d}.jpg", quality=95)
    return folder


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Pictures for two parts and a half, as an array; the parts are smaller than by default, to be quick."""
    monkeypatch.setattr(store, "CHUNK", 16)
    return np.random.default_rng(0).integers(0, 256, (2 * 16 + 6, 6, 6, 3), np.uint8)
