from __future__ import annotations

import pytest
import torch
from torch import nn

from coterie.networks.backbones import build_backbone
from coterie.networks.depict import Decoder, DepictEncoder, encoder_of, sizes_of
from coterie.networks.net import Net
from coterie.types import InputError, ItemSpec


def spec_of(height: int, width: int | None = None, channels: int = 1) -> ItemSpec:
    return ItemSpec("images", channels, height, width or height)


def encoder_for(spec: ItemSpec, name: str = "depict") -> DepictEncoder:
    torch.manual_seed(0)
    return encoder_of(Net(build_backbone(name, spec), spec, torch.zeros(1), torch.ones(1), half=False))


def test_the_authors_sizes() -> None:
    """Of MNIST's images: 13×13 and 7×7 in the code, which gives them by its kernels, strides and paddings."""
    assert sizes_of(spec_of(28)) == [(28, 28), (13, 13), (7, 7)]
    encoder = encoder_for(spec_of(28))
    found = [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding)
             for c in encoder.modules() if isinstance(c, nn.Conv2d)]  # fmt: skip
    assert found == [(1, 50, (4, 4), (2, 2), (0, 0)), (50, 50, (5, 5), (2, 2), (2, 2))]
    assert encoder.code.weight.shape == (10, 50 * 49)
    assert encoder_for(spec_of(28), "depict-20").num_features == 20


@pytest.mark.parametrize("spec", [spec_of(4), spec_of(5, 8, 3), spec_of(16), spec_of(28), spec_of(31, 32, 2)])
def test_every_layer_is_rebuilt_in_its_own_size(spec: ItemSpec) -> None:
    encoder = encoder_for(spec)
    images = torch.rand(3, spec.channels, spec.height, spec.width)
    *layers, code = encoder.layers(images)
    assert torch.equal(encoder(images), code)
    assert float(code.detach().abs().max()) <= 1
    rebuilt = Decoder(spec, 10)(code)
    assert [r.shape for r in rebuilt] == [h.shape for h in layers]
    assert [tuple(h.shape[2:]) for h in layers] == sizes_of(spec)
    torch.testing.assert_close(layers[0], 2 * images - 1)
    assert float(rebuilt[0].detach().abs().max()) <= 1


def test_noise_is_put_on_input_and_first_map_and_what_is_handed_out_is_without() -> None:
    encoder, images, heard = encoder_for(spec_of(8)), torch.rand(2, 1, 8, 8), list[tuple[int, ...]]()

    def noise(x: torch.Tensor) -> torch.Tensor:
        heard.append(tuple(x.shape))
        return torch.zeros_like(x)

    seen, first, second, code = encoder.layers(images, noise)
    assert heard == [(2, 1, 8, 8), (2, 50, 3, 3)]
    torch.testing.assert_close(seen, 2 * images - 1)
    assert not first.any()  # the biases are 0, and so is what the first convolution gets
    assert not second.any()
    assert not code.any()


def test_what_it_cannot_read_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown backbone 'depict-x'"):
        build_backbone("depict-x", spec_of(8))
    with pytest.raises(InputError, match="reads images"):
        build_backbone("depict", ItemSpec("embeddings", dim=9))
    with pytest.raises(InputError, match="at least 4 pixels a side, and these have 3: take a larger --image-size"):
        build_backbone("depict", spec_of(9, 3))
    net = Net(build_backbone("small-4", spec_of(8)), spec_of(8), torch.zeros(1), torch.ones(1), half=False)
    with pytest.raises(InputError, match="which no other backbone has: leave --backbone or --init out"):
        encoder_of(net)
