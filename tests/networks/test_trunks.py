"""Backbones by name, those of a method's own file too."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from coterie.networks.backbones import build_backbone
from coterie.networks.trunks import own_trunks, trunk
from coterie.types import InputError, ItemSpec

IMAGES = ItemSpec("images", channels=1, height=8, width=8)


def test_the_files_of_the_package_are_found() -> None:
    assert {"ae", "ae-conv", "mlp", "identity", "pica-resnet34", "small-"} <= set(own_trunks())


def test_a_trunk_of_ones_own_is_built_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coterie.networks.trunks._builders", {})

    @trunk("flat-8")
    def build(name: str, spec: ItemSpec) -> nn.Module:
        net: Any = nn.Flatten()
        net.num_features = spec.channels * spec.height * spec.width
        return net

    net: Any = build_backbone("flat-8", IMAGES)
    assert net.num_features == 64
    assert trunk("flat-8")(build) is build  # imported twice
    with pytest.raises(ValueError, match="'flat-8' is there already"):
        trunk("flat-8")(lambda name, spec: nn.Identity())


@pytest.mark.parametrize(("name", "said"), [("small-x", "small residual nets"), ("ea", "Unknown backbone 'ea'")])
def test_a_name_that_nobody_builds_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_backbone(name, IMAGES)
