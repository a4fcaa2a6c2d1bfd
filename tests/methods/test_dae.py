from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.algorithms.kmeans import assign
from coterie.contract import Facts, check, predict
from coterie.methods.ae import AE
from coterie.methods.dae import DAE
from coterie.networks.backbones import build_backbone
from coterie.networks.net import Net
from coterie.types import Batch, InputError, ItemSpec
from helpers.batches import batch_of_views

SPEC = ItemSpec("images", channels=2, height=6, width=5)
IMAGES = torch.rand(9, 2, 6, 5, generator=torch.Generator().manual_seed(2))
MEAN, STD = torch.tensor([0.3, 0.5]), torch.tensor([0.4, 0.2])
VIEWS = (IMAGES - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1)


def net_of(method: Any, spec: ItemSpec = SPEC, mean: torch.Tensor = MEAN, std: torch.Tensor = STD) -> Net:
    torch.manual_seed(0)
    net = Net(build_backbone("ae", spec), spec, mean, std, half=False)
    net.add(method.heads(net, 3))
    return net.train()


def batch_of(views: torch.Tensor = VIEWS) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return batch_of_views({"shifted": views}, generator=generator)


def pixels(view: torch.Tensor) -> torch.Tensor:
    return view * STD.view(-1, 1, 1) + MEAN.view(-1, 1, 1)


def test_without_damage_it_is_the_auto_encoder() -> None:
    (own,) = list(DAE(level=0.0).step(net_of(DAE()), batch_of()))
    (plain,) = list(AE().step(net_of(AE()), batch_of()))
    assert isinstance(own, dict)
    assert isinstance(plain, dict)
    assert torch.equal(own["reconstruction"], plain["reconstruction"])


@settings(max_examples=20, deadline=None)
@given(level=st.floats(0, 1))
def test_masked_pixels_are_black_and_the_others_are_left(level: float) -> None:
    method = DAE(level=level)
    damaged, hit = method.damaged(net_of(method), batch_of())
    shown = pixels(damaged)
    torch.testing.assert_close(shown[hit], torch.zeros(int(hit.sum())), atol=1e-6, rtol=0)
    assert torch.equal(damaged[~hit], VIEWS[~hit])


def test_salt_and_pepper_are_equally_often_white_and_black() -> None:
    method = DAE(damage="salt-and-pepper", level=0.5)
    views = VIEWS.repeat(60, 1, 1, 1)
    damaged, hit = method.damaged(net_of(method), batch_of(views))
    shown = pixels(damaged)[hit].round(decimals=4)
    assert set(shown.tolist()) == {0.0, 1.0}
    share = 32_400 * 0.5  # of all values, half is damaged
    assert len(shown) == pytest.approx(share, rel=0.05)
    assert float(shown.mean()) == pytest.approx(0.5, abs=0.03)


def test_noise_has_the_deviation_asked_for_on_the_scale_of_pixels() -> None:
    method = DAE(damage="gaussian", level=0.3)
    views = VIEWS.repeat(60, 1, 1, 1)
    damaged, _ = method.damaged(net_of(method), batch_of(views))
    apart = pixels(damaged) - pixels(views)
    assert apart.std((0, 2, 3)).tolist() == pytest.approx([0.3, 0.3], rel=0.05)


def test_masked_features_of_an_embedding_get_their_lowest_value() -> None:
    spec = ItemSpec("embeddings", dim=7)
    x = torch.rand(9, 7, generator=torch.Generator().manual_seed(0))  # on the net's own scale, from 0 to 1
    method = DAE(level=0.5)
    net = net_of(method, spec, torch.full((7,), -3.0), torch.full((7,), 2.0))
    damaged, hit = method.damaged(net, batch_of(x))
    assert hit.any()
    assert damaged[hit].tolist() == [0.0] * int(hit.sum())


def test_what_has_to_come_out_is_the_whole_item() -> None:
    method, net = DAE(level=0.4, emphasis=3.0), net_of(DAE())
    (losses,) = list(method.step(net, batch_of()))
    damaged, hit = method.damaged(net, batch_of())
    told = net.decoder(net.backbone(damaged)).detach()
    total = 0.0
    for row, mask, whole in zip(told, hit.flatten(1), VIEWS.flatten(1), strict=True):
        for value, is_hit, wanted in zip(row.tolist(), mask.tolist(), whole.tolist(), strict=True):
            total += (3.0 if is_hit else 1.0) * (value - wanted) ** 2
    assert isinstance(losses, dict)
    assert losses["reconstruction"].item() == pytest.approx(total / VIEWS.numel(), rel=1e-3)


def test_prediction_does_no_damage() -> None:
    method, net = DAE(level=1.0), net_of(DAE())
    z = net.eval().backbone(VIEWS).detach()
    method.finish(net, lambda: z, 3, torch.Generator().manual_seed(0))
    assert torch.equal(predict(method, net, z)["kmeans"].argmax(1), assign(z, net.groups.centres)[0])


def test_a_chance_above_one_is_refused() -> None:
    facts = Facts(100, 3, "images", "cpu", side=8)
    check(DAE(damage="gaussian", level=1.5), facts)
    with pytest.raises(InputError, match=r"dae\.level is 1\.5: with dae\.damage=masking it is a chance"):
        check(DAE(level=1.5), facts)
