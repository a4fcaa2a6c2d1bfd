"""Pictures that hardly differ are said to before anything is trained; thin, dark and plain ones that differ are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from coterie.data import open_source
from coterie.data.flat import flatness, mark_flat
from coterie.methods.cdc import CDC
from coterie.pipeline import run
from coterie.running.prepared import Watch
from coterie.running.stages import check_result
from coterie.training.advice import advice_for
from coterie.training.plan import RunSettings
from coterie.types import Assignments, RunFailed

DIGITS = load_digits().images / 16


def shown(scale: float, offset: float = 0) -> np.ndarray:
    return np.rint(offset + scale * DIGITS).astype(np.uint8)


@pytest.mark.parametrize(
    ("scale", "offset", "said"),
    [
        (6, 0, "values from 0 to 6 of 0 to 255: the pictures are nearly black"),
        (-6, 255, "values from 249 to 255 of 0 to 255: the pictures are nearly white"),
        (6, 120, "the pictures are nearly of one grey"),
        (6, 200, "the pictures are nearly of one grey"),
        (40, 0, None),
        (255, 0, None),
    ],
)
def test_pictures_of_nearly_one_value(scale: float, offset: float, said: str | None) -> None:
    source = open_source(shown(scale, offset))
    mark_flat(source)
    assert (said in source.warnings[0]) if said else source.warnings == []


def test_all_parts_of_a_source_are_looked_at() -> None:
    """Blank frames at the beginning of a film are none of the others."""
    source = open_source(np.concatenate([shown(6)[:100], shown(255)[:100]]))
    mark_flat(source)
    assert source.warnings == []


def test_pictures_that_were_embedded_are_looked_at() -> None:
    pictures = open_source(shown(6))
    source = replace(open_source(DIGITS.reshape(len(DIGITS), -1)), pictures=pictures.items)
    mark_flat(source)
    assert "the pictures are nearly black" in source.warnings[-1]


def test_copies_of_one_picture_with_a_little_noise() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (1, 3, 32, 32))
    noisy = np.clip(scene + rng.integers(-3, 4, (20, 3, 32, 32)), 0, 255).astype(np.uint8)
    assert "less than 16 of 256 greys" in flatness(noisy)


def test_few_bright_pixels_and_plain_colours_are_pictures() -> None:
    stars = np.zeros((64, 1, 64, 64), np.uint8)
    for number in range(64):
        stars[number, 0, number, 10:25] = 200  # 15 of 4,096
    assert flatness(stars) == ""
    assert flatness(np.repeat(np.arange(0, 256, 8), 3 * 16).reshape(-1, 3, 4, 4).astype(np.uint8)) == ""


def test_it_is_said_before_training_and_stands_in_the_record(tmp_path: Any) -> None:
    for number, pixels in enumerate(shown(6)[:40]):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    settings = RunSettings(n_clusters=2, method="kmeans", encoder="none", calibrate=False)
    heard: list[str] = []
    done = run(str(tmp_path), settings, watch=Watch(say=heard.append))
    (text,) = [text for text in heard if "nearly black" in text]
    assert heard.index(text) < heard.index("predicting all items")
    assert text in done.record["warnings"]


def test_a_collapse_names_what_was_found_of_the_data() -> None:
    one = Assignments(["a", "b", "c"], torch.eye(2)[[0, 0, 0]])
    with pytest.raises(RunFailed, match="collapsed") as caught:
        check_result(one, 2, ["The pictures are nearly black."], advice_for(CDC()))
    assert caught.value.advice.startswith("The pictures are nearly black. ")
