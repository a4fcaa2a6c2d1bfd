from __future__ import annotations

import pytest
import torch

from coterie.networks.backbones import build_backbone
from coterie.networks.early import early_channels, early_maps
from coterie.networks.net import Net
from coterie.types import InputError, ItemSpec


def net_of(name: str, side: int = 32, *, half: bool = False) -> Net:
    spec = ItemSpec("images", channels=3, height=side, width=side)
    return Net(build_backbone(name, spec), spec, torch.zeros(3), torch.ones(3), half=half).train()


@pytest.mark.parametrize(
    ("name", "side", "channels", "map_side"),
    [("dccm", 32, 64, 14), ("dac", 32, 64, 14), ("small-4", 16, 4, 16), ("sobel+small-4", 16, 4, 16)],
)
def test_the_early_map_is_that_of_the_first_layers(name: str, side: int, channels: int, map_side: int) -> None:
    net = net_of(name, side)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert early_channels(net) == channels
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    images = torch.randn(2, 3, side, side)
    with early_maps(net) as kept:
        features = net.backbone(images)
    assert kept[0].shape == (2, channels, map_side, map_side)
    kept[0].sum().backward()
    net.backbone(images)
    assert len(kept) == 1  # nothing is kept any more
    assert features.shape == (2, net.width)


def test_it_is_float32_in_half_precision_too() -> None:
    net = net_of("small-4", 16, half=True)
    with early_maps(net) as kept:
        net.backbone(torch.randn(2, 3, 16, 16))
    assert kept[0].dtype == torch.float32


def test_a_backbone_without_known_first_layers_is_refused() -> None:
    with pytest.raises(InputError, match="early maps of the backbone"), early_maps(net_of("dcgan-32")):
        pass


@pytest.mark.parametrize(("name", "least"), [("dccm", 20), ("dac", 16), ("dac-large", 50)])
def test_plain_nets_say_how_large_images_must_be(name: str, least: int) -> None:
    with torch.no_grad():
        assert bool(torch.isfinite(net_of(name, least).backbone(torch.randn(2, 3, least, least))).all())
    with pytest.raises(InputError, match=f"{name}.* at least {least} pixels"):
        net_of(name, least - 1)
