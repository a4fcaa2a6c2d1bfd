"""The pictures behind embeddings: read below their folder alone, whatever a table calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from coterie.data.feature_folders import files_below
from coterie.data.picture_form import Options
from coterie.types import InputError
from data.test_originals import picture


def test_no_picture_outside_of_the_folder_is_opened(tmp_path: Path) -> None:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("photos/deep/a.png", "secret.png"):
        (tmp_path / name).write_bytes(picture(1))
    names = ["deep/a.png", "../secret.png", "deep/../../secret.png", str(tmp_path / "secret.png"), "gone.png"]
    found = files_below(tmp_path / "photos", names, Options())
    assert found.take(torch.tensor([0])).shape == (1, 3, 128, 128)
    for row in (1, 2, 3):
        with pytest.raises(InputError, match="its name leads out of the folder"):
            found.take(torch.tensor([row]))
    with pytest.raises(InputError, match=r"gone\.png"):
        found.take(torch.tensor([4]))
