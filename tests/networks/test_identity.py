from __future__ import annotations

import pytest
import torch

from coterie.networks.backbones import BackboneChoice, build_backbone, choose_backbone
from coterie.networks.identity import own_values
from coterie.networks.net import Net
from coterie.types import ItemSpec
from coterie.views.normalise import normalise

IMAGES = ItemSpec("images", channels=3, height=4, width=5)
VECTORS = ItemSpec("embeddings", dim=7)


@pytest.mark.parametrize(("spec", "shape"), [(IMAGES, (6, 3, 4, 5)), (VECTORS, (6, 7))])
def test_the_identity_gives_the_items_own_values(spec: ItemSpec, shape: tuple[int, ...]) -> None:
    raw = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    mean, std = torch.rand(shape[1]), 0.5 + torch.rand(shape[1])
    net = Net(build_backbone("identity", spec), spec, mean, std, half=False)
    features = net.backbone(normalise(raw, mean, std))
    assert net.width == raw[0].numel()
    torch.testing.assert_close(features, normalise(raw, mean, std).reshape(6, -1))
    torch.testing.assert_close(own_values(net, features), raw.reshape(6, -1))


def test_features_of_a_network_are_left_as_they_are() -> None:
    net = Net(build_backbone("mlp", VECTORS), VECTORS, torch.ones(7), 2 * torch.ones(7), half=False)
    features = torch.rand(3, net.width)
    assert own_values(net, features) is features


def test_it_can_be_asked_for_whatever_the_source_holds() -> None:
    for spec in (IMAGES, VECTORS):
        assert choose_backbone("identity", spec, "cpu") == BackboneChoice("identity", "asked for")
