"""Nets that are built for their form alone: torch's random state stays, and most weights are not drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coterie.networks.backbones import build_backbone
from coterie.networks.draws import OwnDraws
from coterie.types import ItemSpec

IMAGES = ItemSpec("images", channels=3, height=32, width=32)


@pytest.mark.parametrize("name", ["small-8", "pica-resnet34", "ae", "ae-conv", "dcgan-32", "resnet18", "sobel+small-4"])
def test_a_net_is_built_without_a_draw_from_torchs_state(name: str) -> None:
    before = torch.get_rng_state()
    with OwnDraws():
        net = build_backbone(name, IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    drawn = build_backbone(name, IMAGES)
    assert not torch.equal(torch.get_rng_state(), before)
    shapes = {key: value.shape for key, value in drawn.state_dict().items()}
    assert {key: value.shape for key, value in net.state_dict().items()} == shapes


@pytest.mark.parametrize("make", [lambda: nn.Linear(40, 30, bias=False), lambda: nn.Conv2d(3, 8, 3, bias=False)])
def test_the_weights_of_such_layers_are_not_drawn(make) -> None:
    with OwnDraws() as mode:
        before = mode.generator.get_state()
        make()
    assert torch.equal(mode.generator.get_state(), before)


def test_numbers_that_are_drawn_until_they_fit_are_drawn() -> None:
    before = torch.get_rng_state()
    with OwnDraws():
        cut, free = nn.init.trunc_normal_(torch.full((100,), 9.0)), torch.randn(100)
    assert float(cut.abs().max()) <= 2
    assert 0.5 < float(free.std()) < 2
    assert torch.equal(torch.get_rng_state(), before)
