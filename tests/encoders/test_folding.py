from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

from coterie.encoders.folding import folded


def settled(net: nn.Module) -> nn.Module:
    """The net as training could have left it: normalisations with statistics of their own."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


# One of the ResNet's stands after a block of several convolutions, and stays.
@pytest.mark.parametrize(("name", "stay"), [("test_efficientnet", 0), ("test_resnet", 1)])
def test_nothing_of_the_outcome_changes_without_the_normalisations(name, stay):
    net = settled(timm.create_model(name, num_classes=0))
    images = torch.randn(4, 3, 64, 64)
    before = norms(net)
    made = folded(net, images[:1])
    assert norms(made) == stay < before == norms(net)
    with torch.no_grad():
        torch.testing.assert_close(made(images), net(images), rtol=1e-4, atol=1e-4)


# 64 is halved without a rest, 50 has one at 25 and 13.
@pytest.mark.parametrize("side", [64, 50])
def test_convolutions_pad_by_themselves_what_tensorflow_pads(side):
    net = settled(timm.create_model("test_efficientnet", num_classes=0, pad_type="same"))
    images = torch.randn(4, 3, side, side)
    drawn = torch.get_rng_state()
    made = folded(net, images[:1])
    assert torch.equal(torch.get_rng_state(), drawn)
    padding = [sum(isinstance(part, Conv2dSame) for part in own.modules()) for own in (net, made)]
    assert padding[0] > padding[1] == 0
    with torch.no_grad():
        torch.testing.assert_close(made(images), net(images), rtol=1e-4, atol=1e-4)


def test_a_net_of_tokens_comes_back_as_it_is():
    net = timm.create_model("test_vit", num_classes=0).eval()
    assert folded(net, torch.randn(1, 3, 160, 160)) is net


class Crossed(nn.Module):
    """Two convolutions and a normalisation that stands after the second, and is used after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images):
        return self.second(self.norm(self.first(images))).mean((2, 3))


def test_a_net_that_is_not_what_the_order_of_its_parts_says_comes_back_as_it_is():
    net = settled(Crossed())
    assert folded(net, torch.randn(1, 3, 8, 8)) is net
    assert norms(net) == 1
