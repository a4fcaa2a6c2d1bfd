from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from coterie.networks.backbones import build_backbone
from coterie.networks.redraw import redraw
from coterie.training.distributed import SharedBatchNorm
from coterie.types import ItemSpec
from helpers.draws import seeded

IMAGES = ItemSpec("images", 1, 16, 16)


def trained(name: str, spec: ItemSpec) -> nn.Module:
    """A net whose every number has moved."""
    torch.manual_seed(0)
    net = build_backbone(name, spec)
    with torch.no_grad():
        for value in [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]:
            value.add_(3.0)
    return net


@pytest.mark.parametrize("name", ["small-8", "wrn-28-1", "resnet18"])
def test_a_net_that_is_drawn_anew_has_the_form_and_the_spread_of_a_new_one(name: str) -> None:
    net, new = trained(name, IMAGES), build_backbone(name, IMAGES)
    redraw(net, seeded())
    for (key, value), (other, fresh) in zip(net.state_dict().items(), new.state_dict().items(), strict=True):
        assert key == other
        if value.ndim == 4:
            assert float(value.std()) == pytest.approx(float(fresh.std()), rel=0.35)
            assert not torch.equal(value, fresh)
        elif "num_batches" not in key:
            assert torch.equal(value, fresh), key


def test_the_same_generator_draws_the_same_and_leaves_torchs_own_alone() -> None:
    net = trained("small-8", IMAGES)
    one, two, other = (copy.deepcopy(net) for _ in range(3))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    redraw(one, seeded())
    assert torch.equal(torch.rand(3), expected)
    redraw(two, seeded())
    redraw(other, seeded(1))
    states = [[v for v in n.state_dict().values() if v.ndim == 4] for n in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True))


def test_what_is_fixed_stays_and_shared_normalisations_begin_anew() -> None:
    net = trained("mlp", ItemSpec("embeddings", dim=5))
    lift = [p.clone() for p in net.lift.parameters()]  # type: ignore[union-attr]
    redraw(net, seeded())
    assert all(torch.equal(p, old) for p, old in zip(net.lift.parameters(), lift, strict=True))  # type: ignore[union-attr]
    norm = nn.BatchNorm1d(4)
    norm(7 + torch.randn(9, 4))
    shared = SharedBatchNorm(norm)
    with torch.no_grad():
        shared.weight.fill_(2.0)
    redraw(nn.Sequential(shared), seeded())
    assert shared.running_mean.tolist() == [0.0] * 4
    assert shared.running_var.tolist() == [1.0] * 4
    assert shared.weight.tolist() == [1.0] * 4
