"""Auto-encoders: the encoder is a backbone (`ae`, `ae-conv`), its code the features; the decoder is a head.

The deep clustering papers from DEC to R-DC share the fully connected one, d-500-500-2000-10 and back: ReLU everywhere
but after the code and after the last layer, no batch normalisation, weights U(-1/√fan_in, 1/√fan_in), biases 0.
`ae-conv` is its convolutional option, three stride-2 convolutions and back (Guo et al. 2017, "Deep Clustering with
Convolutional Autoencoders"). A decoder gives flat vectors, to be compared with `flat(view)`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.heads import SteadyLinear
from coterie.networks.net import HalfPrecision, Net, run_in
from coterie.networks.trunks import trunk
from coterie.types import InputError, ItemSpec

NAMES = ("ae", "ae-conv")
CODE = 10
WIDTHS = (500, 500, 2000)
CHANNELS, KERNELS = (32, 64, 128), (5, 5, 3)  # of the convolutional encoder
FLAT = 1e-6  # variance of a batch's values, whose range is about 1, below which its items are copies


@trunk(*NAMES)
def build_encoder(name: str, spec: ItemSpec) -> CodeEncoder:
    """The encoder of that name. Raises InputError for the convolutional one on embeddings."""
    if name == "ae":
        dense = dense_layers([values_of(spec), *WIDTHS], end_with_relu=True)
        return CodeEncoder(dense, WIDTHS[-1], convolutional=False)
    if spec.kind != "images":
        raise InputError("Backbone 'ae-conv' reads images, but the source holds embeddings: use backbone 'ae'.")
    inside, layers = spec.channels, list[nn.Module]()
    for outside, kernel in zip(CHANNELS, KERNELS, strict=True):
        layers += [nn.Conv2d(inside, outside, kernel, stride=2, padding=kernel // 2), nn.ReLU(inplace=True)]
        inside = outside
    smallest = sizes_of(spec)[-1]
    return CodeEncoder(nn.Sequential(*layers), inside * smallest[0] * smallest[1], convolutional=True)


class CodeEncoder(nn.Module):
    """`body`, up to the last hidden layer, and `code`, the linear layer behind it."""

    def __init__(self, body: nn.Module, hidden: int, *, convolutional: bool) -> None:
        super().__init__()
        self.num_features, self.hidden, self.convolutional = CODE, hidden, convolutional
        self.body, self.code = body, SteadyLinear(hidden, CODE)
        zero_biases(self)

    def forward(self, views: Tensor) -> Float[Tensor, "b d"]:
        hidden = self.last_hidden(views)
        # The code has few values, and distances between codes decide: no half precision here.
        with torch.autocast(views.device.type, enabled=False):
            return self.code(hidden.float())

    def last_hidden(self, views: Tensor) -> Float[Tensor, "b h"]:
        return self.body(views if self.convolutional else flat(views)).flatten(1)


def hidden_and_code(net: Net, view: Tensor) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b d"]]:
    """The encoder's last hidden layer and its code; for a backbone that is no encoder of these, its features twice."""
    trunk = net.backbone.trunk
    if not isinstance(trunk, CodeEncoder):
        features = net.backbone(view)
        return features, features
    hidden = run_in(trunk.last_hidden, view, half=net.backbone.enabled and net.training)
    return hidden, trunk.code(hidden)


def hidden_width(net: Net) -> int:
    """The width of the first output of `hidden_and_code`."""
    trunk = net.backbone.trunk
    return trunk.hidden if isinstance(trunk, CodeEncoder) else net.width


def decoder_for(net: Net) -> HalfPrecision:
    """The mirror of the net's encoder, from its code (any backbone's features) to flat items."""
    trunk = net.backbone.trunk
    if isinstance(trunk, CodeEncoder) and trunk.convolutional:
        decoder: nn.Module = ConvDecoder(net.spec, trunk.hidden)
    else:
        decoder = dense_layers([net.width, *reversed(WIDTHS), values_of(net.spec)], end_with_relu=False)
    zero_biases(decoder)
    return HalfPrecision(decoder, enabled=net.backbone.enabled)


def critic_for(net: Net) -> HalfPrecision:
    """A critic of flat items with the encoder's widths, whatever the encoder: one number for each."""
    critic = Critic(dense_layers([values_of(net.spec), *WIDTHS, CODE], end_with_relu=False))
    zero_biases(critic)
    return HalfPrecision(critic, enabled=net.backbone.enabled)


class Critic(nn.Module):
    """The mean of the ten units of the last layer, which is linear: any number (ACAI, DynAE)."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, items: Float[Tensor, "b x"]) -> Float[Tensor, " b"]:
        return self.layers(items).mean(1)


class ConvDecoder(nn.Module):
    """Linear - ReLU, then transposed convolutions through the encoder's sizes backwards; flat images."""

    def __init__(self, spec: ItemSpec, hidden: int) -> None:
        super().__init__()
        sizes = sizes_of(spec)
        self.size = (CHANNELS[-1], *sizes[-1])
        layers: list[nn.Module] = []
        outsides = (*reversed(CHANNELS[:-1]), spec.channels)
        steps = zip(pairwise(reversed(sizes)), pairwise((CHANNELS[-1], *outsides)), reversed(KERNELS), strict=True)
        for (small, large), (inside, outside), kernel in steps:
            # A side of 7 and one of 8 both become 4; the padding of the output says which it was.
            extra = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
            layers += [
                nn.ConvTranspose2d(inside, outside, kernel, stride=2, padding=kernel // 2, output_padding=extra),
                nn.ReLU(inplace=True),
            ]
        self.expand = nn.Sequential(nn.Linear(CODE, hidden), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, code: Float[Tensor, "b d"]) -> Float[Tensor, "b x"]:
        return self.layers(self.expand(code).view(-1, *self.size)).flatten(1)


def dense_layers(widths: list[int], *, end_with_relu: bool) -> nn.Sequential:
    """Linear layers from each of these widths to the next, with ReLU between them."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*(layers if end_with_relu else layers[:-1]))


def zero_biases(module: nn.Module) -> None:
    """Set biases to 0; torch's own weights already are the wanted U(-1/√fan_in, 1/√fan_in)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def values_of(spec: ItemSpec) -> int:
    """The number of values in one item."""
    return spec.channels * spec.height * spec.width if spec.kind == "images" else spec.dim


def sizes_of(spec: ItemSpec) -> list[tuple[int, int]]:
    """Height and width before each stride-2 convolution and after the last one."""
    return [(math.ceil(spec.height / 2**i), math.ceil(spec.width / 2**i)) for i in range(len(CHANNELS) + 1)]


def flat(view: Tensor) -> Float[Tensor, "b x"]:
    return view.flatten(1)


def explained(errors: Float[Tensor, " b"], wanted: Float[Tensor, "b x"]) -> Float[Tensor, ""]:
    """Share of a batch's variance that its reconstructions explain, from their mean squared errors; for the log.

    1 where each is the item, 0 where all are the batch's mean item, -1 at least. A batch of copies, in which nothing
    varies, has 0.
    """
    variance = wanted.var(0, correction=0).mean()
    share = (1 - errors.detach().mean() / variance.clamp(min=FLAT)).clamp(min=-1)
    return torch.where(variance > FLAT, share, 0.0)
