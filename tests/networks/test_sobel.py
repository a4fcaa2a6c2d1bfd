from __future__ import annotations

import pytest
import torch
from scipy.ndimage import sobel

from coterie.methods.pica import PICA
from coterie.networks.backbones import build_backbone, choose_backbone
from coterie.networks.net import Net
from coterie.networks.sobel import SobelFront
from coterie.types import InputError, ItemSpec


def images(side: int, channels: int = 3) -> ItemSpec:
    return ItemSpec("images", channels=channels, height=side, width=side)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_it_is_scipys_sobel_of_the_channels_mean_with_zeros_around(channels: int) -> None:
    batch = torch.randn(3, channels, 9, 12)
    for grey, found in zip(batch.mean(1).numpy(), SobelFront()(batch), strict=True):
        across, down = (torch.from_numpy(-sobel(grey, axis=axis, mode="constant")) for axis in (1, 0))
        torch.testing.assert_close(found, torch.stack([across, down]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_flat_image_has_edges_at_its_border_only(value: float) -> None:
    edges = SobelFront()(torch.full((1, 3, 8, 8), value))
    assert edges[:, :, 1:-1, 1:-1].abs().max() < 1e-6
    assert (float(edges.abs().max()) > 0) == (value != 0)


def test_a_vertical_edge_excites_the_first_channel_and_is_negative_where_it_gets_brighter_to_the_right() -> None:
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1.0
    inside = SobelFront()(step)[0, :, 1:-1, 1:-1]
    assert inside[0].min() < 0
    assert inside[0].max() <= 1e-6
    assert inside[1].abs().max() < 1e-6


def test_half_precision_around_it_changes_nothing() -> None:
    batch = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SobelFront()(batch)
    assert torch.equal(found, SobelFront()(batch))


@pytest.mark.parametrize(("name", "width"), [("sobel+small-4", 32), ("sobel+resnet18", 512)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_prefix_puts_it_before_any_backbone(name: str, width: int, channels: int) -> None:
    net = build_backbone(name, images(16, channels)).eval()
    batch = torch.randn(3, channels, 16, 16)
    with torch.no_grad():
        assert net(batch).shape == (3, width)
        # Colour that keeps the mean is not seen.
        torch.testing.assert_close(net(batch.mean(1, keepdim=True).expand_as(batch)), net(batch), atol=1e-4, rtol=1e-4)
    assert net.num_features == width


def test_nothing_of_it_is_trained_or_stored() -> None:
    spec = images(16)
    plain, behind = build_backbone("small-4", images(16, 2)), build_backbone("sobel+small-4", spec)
    assert [p.shape for p in behind.parameters()] == [p.shape for p in plain.parameters()]
    assert {name.removeprefix("trunk.") for name in behind.state_dict()} == set(plain.state_dict())
    net = Net(behind, spec, torch.zeros(3), torch.ones(3), half=False)
    net.add(PICA().heads(net, 4))
    kernels = net.backbone.trunk.sobel.kernels
    net.backbone(torch.randn(4, 3, 16, 16)).sum().backward()
    assert kernels.grad is None
    trained = [p for group in PICA().optimiser(net).param_groups for p in group["params"]]
    assert not any(p is kernels for p in trained)


def test_only_images_have_edges() -> None:
    with pytest.raises(InputError, match="reads images"):
        choose_backbone("sobel+small-16", ItemSpec("embeddings", dim=20), "cpu")
    with pytest.raises(InputError, match="reads embeddings"):
        choose_backbone("sobel+mlp", images(16), "cpu")
    with pytest.raises(InputError, match="'smal-16'; did you mean 'small-16'"):
        build_backbone("sobel+smal-16", images(16))


# PICA's ResNet-34


def test_the_residual_net_of_pica_has_the_published_size() -> None:
    trunk = build_backbone("sobel+pica-resnet34", images(32)).trunk
    assert sum(p.numel() for p in trunk.parameters()) == 21_276_416
    assert trunk.num_features == 512


@pytest.mark.parametrize(("side", "last"), [(32, 3), (64, 5), (96, 7)])
def test_its_last_map_is_as_large_as_the_authors_pooling(side: int, last: int) -> None:
    trunk = build_backbone("pica-resnet34", images(side, 2)).eval()
    with torch.no_grad():
        assert trunk.stages(trunk.stem(torch.randn(1, 2, side, side))).shape == (1, 512, last, last)


def test_iics_residual_net_begins_with_kaimings_convolutions() -> None:
    torch.manual_seed(0)
    trunk = build_backbone("iic-resnet34", images(32, 2))
    for name, module in trunk.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.weight[:, 0].numel()
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), name
