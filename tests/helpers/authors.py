"""Numbers that the authors' code gave (tests/parity/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parent.parent / "parity" / "data"


def stored(name: str) -> dict[str, Tensor]:
    """The arrays of a file; halves are inputs, which the authors' code got as float32."""
    with np.load(DATA / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in arrays.items()}
