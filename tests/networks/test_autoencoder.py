from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coterie.networks.autoencoder import NAMES, decoder_for, flat, hidden_and_code, hidden_width
from coterie.networks.backbones import build_backbone, choose_backbone
from coterie.networks.net import Net
from coterie.types import InputError, ItemSpec

GREY = ItemSpec("images", channels=1, height=28, width=28)
VECTOR = ItemSpec("embeddings", dim=70)


def net_of(name: str, spec: ItemSpec, *, half: bool = False) -> Net:
    torch.manual_seed(0)
    size = spec.channels or spec.dim
    net = Net(build_backbone(name, spec), spec, torch.zeros(size), torch.ones(size), half=half)
    net.add({"decoder": decoder_for(net)})
    return net


def items(spec: ItemSpec, n: int = 5) -> torch.Tensor:
    shape = (spec.channels, spec.height, spec.width) if spec.kind == "images" else (spec.dim,)
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


def widths(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def test_the_dense_one_has_the_papers_widths_and_its_mirror() -> None:
    net = net_of("ae", GREY)
    there = [(784, 500), (500, 500), (500, 2000), (2000, 10)]
    assert widths(net.backbone) == there
    assert widths(net.decoder) == [(b, a) for a, b in reversed(there)]


def test_all_layers_but_the_code_and_the_last_end_in_relu() -> None:
    net = net_of("ae", GREY)
    for part in (net.backbone, net.decoder):
        kinds = [type(m).__name__ for m in part.modules() if not list(m.children())]
        assert [kind.replace("Steady", "") for kind in kinds] == ["Linear", "ReLU"] * 3 + ["Linear"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_begin_uniform_by_fan_in_and_biases_at_zero(name: str) -> None:
    layers = [m for m in net_of(name, GREY).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers:
        bound = layer.weight[0].numel() ** -0.5
        weight = layer.weight.detach()
        assert float(weight.abs().max()) <= bound * (1 + 1e-6)
        assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.1)
        assert layer.bias is not None
        assert not layer.bias.any()


@given(st.integers(1, 3), st.integers(5, 33), st.integers(5, 33))
@settings(max_examples=15, deadline=None)
def test_the_convolutional_one_gives_back_images_of_any_size(channels: int, height: int, width: int) -> None:
    spec = ItemSpec("images", channels=channels, height=height, width=width)
    net, view = net_of("ae-conv", spec), items(spec, 2)
    code = net.backbone(view)
    assert code.shape == (2, 10)
    assert net.decoder(code).shape == flat(view).shape


@pytest.mark.parametrize(("name", "spec"), [("ae", VECTOR), ("ae-conv", GREY)])
def test_training_tells_items_apart(name: str, spec: ItemSpec) -> None:
    net, view = net_of(name, spec), items(spec, 8)
    half_bright = torch.eye(2)[torch.arange(8) % 2].repeat_interleave(flat(view).shape[1] // 2, 1)
    view = 0.5 * view + 0.5 * half_bright.view_as(view)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(40):
        loss = (net.decoder(net.backbone(view)) - flat(view)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5 * float(flat(view).var(0, correction=0).mean())


@pytest.mark.parametrize(("name", "spec"), [("ae", GREY), ("ae", VECTOR), ("ae-conv", GREY), ("small-4", GREY)])
@pytest.mark.parametrize("half", [False, True])
def test_hidden_and_code_are_what_the_backbone_computes(name: str, spec: ItemSpec, half: bool) -> None:
    net, view = net_of(name, spec, half=half).eval(), items(spec)
    for training in (False, True) if name != "small-4" else (False,):
        net.train(training)
        hidden, code = hidden_and_code(net, view)
        assert hidden.shape == (5, hidden_width(net))
        assert (hidden.dtype, code.dtype) == (torch.float32, torch.float32)
        torch.testing.assert_close(code, net.backbone(view))


def test_the_code_is_no_rounded_number_in_half_precision() -> None:
    net = net_of("ae", GREY, half=True).train()
    code = net.backbone(items(GREY))
    assert not torch.equal(code, code.bfloat16().float())


def test_any_backbone_gets_a_decoder() -> None:
    net = net_of("small-4", GREY)
    assert widths(net.decoder)[0] == (32, 2000)
    assert net.decoder(net.backbone(items(GREY))).shape == (5, 784)


def test_the_code_of_an_item_does_not_depend_on_its_place() -> None:
    net, view = net_of("ae", GREY).eval(), items(GREY, 64)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(net.backbone(view)[order], net.backbone(view[order]))


def test_embeddings_have_the_dense_one_only() -> None:
    assert choose_backbone("ae", VECTOR, "cpu").name == "ae"
    with pytest.raises(InputError, match="'ae-conv' reads images"):
        choose_backbone("ae-conv", VECTOR, "cpu")
    with pytest.raises(InputError, match="'ae-conv' reads images"):
        build_backbone("ae-conv", VECTOR)
