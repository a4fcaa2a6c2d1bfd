"""Weights of a small net of timm's, as a file: an encoder like any other, and quick."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file


def random_weights(folder: Path, name: str) -> Path:
    """A whole file of the net's weights, always the same random ones."""
    torch.manual_seed(0)
    path = folder / "small.safetensors"
    save_file(timm.create_model(name, pretrained=False, num_classes=0).state_dict(), path)
    return path
