from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from coterie.networks.backbones import build_backbone
from coterie.networks.dcgan import (
    NOISE,
    Discriminator,
    Generator,
    channels_of,
    draw_weights,
    generator_for,
    judge_for,
    keeping_statistics,
    seen_by_judge,
)
from coterie.networks.net import Net
from coterie.types import InputError, ItemSpec


def spec_of(height: int, width: int | None = None, channels: int = 3) -> ItemSpec:
    return ItemSpec("images", channels, height, width or height)


def net_of(name: str, spec: ItemSpec) -> Net:
    torch.manual_seed(0)
    return Net(build_backbone(name, spec), spec, torch.zeros(spec.channels), torch.ones(spec.channels), half=False)


def trunk_of(name: str, spec: ItemSpec) -> Discriminator:
    trunk = build_backbone(name, spec)
    assert isinstance(trunk, Discriminator)
    return trunk


def test_the_papers_sizes() -> None:
    trunk = trunk_of("dcgan", spec_of(32))
    assert trunk.convolutions.length == 16 * (128 + 256 + 512) == 14_336
    convolutions = [layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 128), (128, 256), (256, 512)]
    assert {(c.kernel_size, c.stride, c.padding) for c in convolutions} == {((4, 4), (2, 2), (1, 1))}
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in trunk.modules()) == 2
    assert trunk_of("dcgan-128", spec_of(32)).convolutions.length == 14_336
    assert channels_of(128, 64) == [64, 128, 256, 512]


@pytest.mark.parametrize("spec", [spec_of(8, channels=1), spec_of(32), spec_of(28, 20, 1), spec_of(50), spec_of(96)])
def test_images_of_any_size_become_256_features_and_are_generated(spec: ItemSpec) -> None:
    net = net_of("dcgan-4", spec)
    side = 32 if spec.height <= 40 else 64
    images = torch.rand(3, spec.channels, spec.height, spec.width)
    with torch.no_grad():
        assert net.backbone(images).shape == (3, 256) == (3, net.width)
        made = generator_for(net)(torch.rand(3, NOISE))
        assert made.shape == (3, spec.channels, side, side)
        assert 0 <= float(made.min()) < float(made.max()) <= 1
        assert judge_for(net)(seen_by_judge(net, made)).shape == (3, 1)


def test_features_are_all_layers_maps_pooled_to_four_by_four() -> None:
    """By hand: the largest of every square of a map, sixteen squares a map."""
    trunk = trunk_of("dcgan-4", spec_of(32)).eval()
    images = torch.rand(2, 3, 32, 32)
    x, rows = 2 * images - 1, []
    for layer in trunk.convolutions.layers:
        x = layer(x)
        step = x.shape[2] // 4
        squares = [
            x[:, c, step * i : step * (i + 1), step * j : step * (j + 1)].amax((1, 2))
            for c in range(x.shape[1])
            for i in range(4)
            for j in range(4)
        ]
        rows.append(torch.stack(squares, 1))
    pooled = torch.cat(rows, 1)
    torch.testing.assert_close(trunk.convolutions(images), pooled)
    torch.testing.assert_close(trunk.last_map(images), x.flatten(1))
    trunk.centre.normal_()
    torch.testing.assert_close(trunk(images), (pooled - trunk.centre) @ trunk.directions.T, atol=1e-4, rtol=1e-4)


def test_the_first_projection_keeps_lengths_on_average() -> None:
    trunk = trunk_of("dcgan-32", spec_of(32))
    rows = torch.randn(50, trunk.convolutions.length)
    kept = (rows @ trunk.directions.T).norm(dim=1) / rows.norm(dim=1)
    torch.testing.assert_close(kept.mean(), torch.tensor(1.0), atol=0.1, rtol=0)


def test_a_placed_projection_may_have_fewer_directions() -> None:
    trunk = trunk_of("dcgan-4", spec_of(32)).eval()
    length = trunk.convolutions.length
    trunk.place(torch.ones(length), torch.eye(length)[:2])
    images = torch.rand(2, 3, 32, 32)
    found = trunk(images)
    torch.testing.assert_close(found[:, :2], trunk.convolutions(images)[:, :2] - 1)
    assert not bool(found[:, 2:].any())


def test_weights_are_drawn_as_the_paper_says() -> None:
    net = net_of("dcgan-32", spec_of(32))
    for part in (net.backbone, generator_for(net), judge_for(net)):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.15)
                assert layer.bias is None or not bool(layer.bias.any())
            elif isinstance(layer, nn.BatchNorm2d):
                assert float(layer.weight.detach().mean()) == pytest.approx(1, abs=0.02)
                assert 0 < float(layer.weight.detach().std()) < 0.05


def test_another_backbone_judges_by_its_features_images_of_its_own_size() -> None:
    net = net_of("small-4", spec_of(20, 12, 1))
    made = generator_for(net)(torch.rand(2, NOISE))
    assert made.shape == (2, 1, 20, 12)
    assert torch.equal(seen_by_judge(net.eval(), made), net.backbone(made))
    assert judge_for(net).in_features == net.width


def test_half_precision_is_for_both_nets() -> None:
    torch.manual_seed(0)
    spec = spec_of(32)
    half = Net(build_backbone("dcgan-4", spec), spec, torch.zeros(3), torch.ones(3), half=True).train()
    images = torch.rand(4, 3, 32, 32)
    exact = half.backbone.trunk.last_map(images)
    found = seen_by_judge(half, images)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.1)
    assert generator_for(half).enabled
    other = Net(build_backbone("small-4", spec_of(20)), spec_of(20), torch.zeros(3), torch.ones(3), half=True)
    made = generator_for(other.train())(torch.rand(4, NOISE))  # resized to the size of the items
    assert (made.shape, made.dtype) == ((4, 3, 20, 20), torch.float32)


@pytest.mark.parametrize("wrong", ["dcgan-2", "dcgan-x", "dcgan-33"])
def test_a_discriminator_of_no_such_width_is_an_input_error(wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        build_backbone(wrong, spec_of(32))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_may_be_kept(momentum: float | None) -> None:
    norm = nn.BatchNorm2d(2, momentum=momentum)
    other: Tensor = torch.randn(5, 2, 3, 3)
    norm(torch.randn(5, 2, 3, 3))
    mean, var = norm.running_mean.clone(), norm.running_var.clone()  # type: ignore[union-attr]
    with keeping_statistics(norm):
        found = norm(other)
        torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    assert torch.equal(mean, norm.running_mean)  # type: ignore[arg-type]
    assert torch.equal(var, norm.running_var)  # type: ignore[arg-type]
    assert norm.momentum == momentum


def test_draw_weights_leaves_other_layers_alone() -> None:
    layer = nn.LayerNorm(3)
    draw_weights(nn.Sequential(layer))
    assert torch.equal(layer.weight, torch.ones(3))


def test_a_generator_has_the_discriminators_sizes_backwards() -> None:
    made = Generator(3, channels_of(128, 32), None)
    steps = [layer for layer in made.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels) for c in steps] == [(512, 256), (256, 128), (128, 3)]
    assert made.expand.out_features == 4 * 4 * 512
