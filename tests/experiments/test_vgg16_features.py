from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from coterie.data import labels_of, open_source


class SmallVGG(nn.Module):
    """VGG-16's parts by its names, small."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=32), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(nn.Linear(4 * 49, 4096), nn.ReLU(True), nn.Dropout())


@pytest.fixture(scope="module")
def script() -> Any:
    import vgg16_features

    return vgg16_features


def test_the_written_file_is_the_named_set(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path))
    torch.manual_seed(0)
    net = SmallVGG()
    script.write_features(net, "digits", tmp_path / "cifar10-vgg16fc1.npz")
    digits, source = open_source("digits"), open_source("cifar10-vgg16fc1")
    rows = torch.tensor([3, 700])
    with torch.no_grad():
        seen = net.features(script.prepared(digits.items.take(rows)))
        expected = net.classifier[0](net.avgpool(seen).flatten(1)).relu()
    torch.testing.assert_close(source.items.take(rows), expected, atol=1e-5, rtol=1e-4)
    mine, theirs = labels_of("cifar10-vgg16fc1", source.ids), labels_of("digits", digits.ids)
    assert mine is not None
    assert theirs is not None
    assert mine.codes.tolist() == theirs.codes.tolist()


def test_images_are_prepared_as_the_weights_want_them(script: Any) -> None:
    grey = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)
    made = script.prepared(grey)
    assert made.shape == (2, 3, 224, 224)
    expected = (1 - torch.tensor(script.MEAN)) / torch.tensor(script.STD)
    torch.testing.assert_close(made.mean((0, 2, 3)), expected)
