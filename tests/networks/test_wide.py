from __future__ import annotations

import pytest
import torch
from torch import nn

from coterie.networks.backbones import build_backbone
from coterie.types import InputError, ItemSpec


@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    # Those of `WideResNet` of niuchuangnn/SPICE (commit 5eba5383; wrn.py, wrn_stl10.py), without its classifier.
    [("wrn-28-2", 1_466_320, 128), ("wrn-28-8", 23_349_712, 512), ("wrn-37-2", 5_926_864, 256)],
)
def test_the_nets_have_the_authors_sizes(name: str, parameters: int, width: int) -> None:
    with torch.device("meta"):
        net = build_backbone(name, ItemSpec("images", 3, 32, 32))
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net.num_features == width


@pytest.mark.parametrize(("name", "side"), [("wrn-28-1", 5), ("wrn-37-1", 2)])
def test_images_are_halved_as_often_as_the_stages_say(name: str, side: int) -> None:
    net = build_backbone(name, ItemSpec("images", 1, 20, 20)).eval()
    images = torch.rand(3, 1, 20, 20)
    assert net.stages(images).shape[2:] == (side, side)  # type: ignore[operator]
    assert net(images).shape == (3, net.num_features)


def test_a_block_without_shortcut_adds_to_its_input() -> None:
    net = build_backbone("wrn-28-1", ItemSpec("images", 1, 8, 8)).eval()
    block = net.stages[2]  # type: ignore[index]
    nn.init.zeros_(block.second.weight)
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("name", ["wrn-28-wide", "wrn-28-0", "wrn-28-", "wrn-37-900"])
def test_what_is_no_width_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="wrn-28-2"):
        build_backbone(name, ItemSpec("images", 3, 32, 32))
