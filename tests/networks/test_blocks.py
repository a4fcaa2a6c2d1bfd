"""DDC-UCO's net and the maps that are seen of a backbone's blocks."""

from __future__ import annotations

import pytest
import torch

from coterie.networks.backbones import build_backbone
from coterie.networks.blocks import block_maps
from coterie.networks.net import Net
from coterie.types import InputError, ItemSpec


def net_of(name: str, side: int, *, half: bool = False) -> Net:
    spec = ItemSpec("images", channels=1, height=side, width=side)
    return Net(build_backbone(name, spec), spec, torch.zeros(1), torch.ones(1), half=half).train()


@pytest.mark.parametrize(
    ("name", "side", "maps"),
    [
        ("ddc-uco", 28, [(32, 20, 20), (32, 3, 3)]),  # the authors' sizes for Fashion-MNIST
        ("ddc-uco", 20, [(32, 12, 12), (32, 1, 1)]),
        ("ddc-uco", 8, [(32, 8, 8), (32, 2, 2)]),
        ("sobel+ddc-uco", 4, [(32, 4, 4), (32, 1, 1)]),
        ("small-4", 8, [(4, 8, 8)]),
        ("dcgan-32", 8, []),
    ],
)
def test_the_maps_of_a_backbones_blocks(name: str, side: int, maps: list[tuple[int, ...]]) -> None:
    net = net_of(name, side)
    with block_maps(net) as kept:
        features = net.backbone(torch.rand(3, 1, side, side))
    assert [tuple(one.shape[1:]) for one in kept] == maps
    assert features.shape == (3, net.width)
    if name.endswith("ddc-uco"):
        torch.testing.assert_close(features, kept[1].flatten(1))
        features.sum().backward()
        weight = next(p for key, p in net.named_parameters() if key.endswith("first.0.weight"))
        assert weight.grad is not None
        assert bool(weight.grad.abs().sum() > 0)
    net.backbone(torch.rand(3, 1, side, side))
    assert len(kept) == len(maps)  # nothing is kept any more


def test_maps_are_float32_in_half_precision_too() -> None:
    net = net_of("ddc-uco", 8, half=True)
    with block_maps(net) as kept:
        net.backbone(torch.rand(2, 1, 8, 8))
    assert {one.dtype for one in kept} == {torch.float32}


def test_the_net_says_how_large_images_must_be() -> None:
    with pytest.raises(InputError, match=r"ddc-uco.* at least 4 pixels"):
        net_of("ddc-uco", 3)
