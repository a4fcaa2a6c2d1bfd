"""DCGAN's two nets: the discriminator's convolutions are a backbone, the generator is their mirror.

Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", ICLR 2016. `dcgan` has convolutions of 128, 256 and 512 channels for images of 32 pixels, `dcgan-32` of 32,
64 and 128; for 64 pixels one of half as many channels comes before them. Images of other sizes are resized inside.
The features are those of the paper's section 5.1: the maps of all layers, each max-pooled to 4×4, in a row. They are
many (14,336), so the backbone ends in a projection to 256: at random until a method places another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.net import HalfPrecision, Net, run_in
from coterie.networks.pooled import GRID, PooledMaps, resized
from coterie.networks.trunks import trunk
from coterie.types import InputError, ItemSpec

NAME, FULL, SMALL = "dcgan", 128, 32  # channels of the first layer: the paper's, and a generator's for other backbones
NOISE = 100  # random numbers that an image is generated from
SMALL_SIDE = 40  # up to which images are seen at 32 pixels, larger ones at 64


@trunk(NAME, f"{NAME}-")
def build_encoder(name: str, spec: ItemSpec) -> Discriminator:
    """The backbone of that name, `dcgan` or `dcgan-32`. Raises InputError for another one."""
    width = name.removeprefix(NAME).removeprefix("-") or str(FULL)
    if not width.isdigit() or int(width) < 4 or int(width) % 2:
        raise InputError(f"Unknown backbone {name!r}: DCGAN's are 'dcgan' and 'dcgan-32'.")
    return Discriminator(spec.channels, channels_of(int(width), side_of(spec)))


def side_of(spec: ItemSpec) -> int:
    """Pixels at which DCGAN sees and makes such images."""
    return 32 if max(spec.height, spec.width) <= SMALL_SIDE else 64


def channels_of(width: int, side: int) -> list[int]:
    """Channels of each layer, from the image to 4×4 pixels: 128, 256, 512 for a width of 128 and 32 pixels."""
    return [width, 2 * width, 4 * width] if side == 32 else [width // 2, width, 2 * width, 4 * width]


class Convolutions(nn.Module):
    """4×4 convolutions of stride 2, batch normalisation but in the first layer, leaky ReLU of slope 0.2.

    Called, it gives all maps, pooled to 4×4 and in a row. It takes images in [0, 1] of any size.
    """

    def __init__(self, inside: int, channels: list[int]) -> None:
        super().__init__()
        self.side = GRID * 2 ** len(channels)
        self.length = GRID**2 * sum(channels)
        self.layers = nn.ModuleList()
        for number, outside in enumerate(channels):
            first = number == 0
            norm: nn.Module = nn.Identity() if first else nn.BatchNorm2d(outside)
            layer = nn.Conv2d(inside, outside, 4, stride=2, padding=1, bias=first)
            self.layers.append(nn.Sequential(layer, norm, nn.LeakyReLU(0.2, inplace=True)))
            inside = outside

    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """The output of each layer, from the largest map to that of 4×4 pixels."""
        found = [2 * resized(images, (self.side, self.side)) - 1]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return found[1:]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        return torch.cat([F.max_pool2d(map, map.shape[-1] // GRID).flatten(1) for map in self.maps(images)], 1)


class Discriminator(PooledMaps):
    """The convolutions and a projection of their pooled maps."""

    convolutions: Convolutions

    def __init__(self, inside: int, channels: list[int]) -> None:
        convolutions = Convolutions(inside, channels)
        draw_weights(convolutions)
        super().__init__(convolutions, convolutions.length)
        self.width, self.last = channels[-1] // 4, GRID**2 * channels[-1]

    def last_map(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b x"]:
        """The last layer's map, of which the logit is a linear function."""
        return self.convolutions.maps(images)[-1].flatten(1)


def discriminator_of(net: Net) -> Discriminator | None:
    """The net's trunk where it is DCGAN's own; another backbone's features are judged and clustered as they are."""
    trunk = net.backbone.trunk
    return trunk if isinstance(trunk, Discriminator) else None


def judge_for(net: Net) -> nn.Linear:
    """The discriminator's last layer: the logit that an image is a real one, from `seen_by_judge`."""
    own = discriminator_of(net)
    judge = nn.Linear(net.width if own is None else own.last, 1)
    draw_weights(judge)
    return judge


def seen_by_judge(net: Net, view: Float[Tensor, "b c h w"]) -> Float[Tensor, "b x"]:
    """What the judge, a linear layer, is given of images: the discriminator's last map, or the backbone's features."""
    own = discriminator_of(net)
    return net.backbone(view) if own is None else run_in(own.last_map, view, half=net.backbone.enabled and net.training)


class Generator(nn.Module):
    """100 numbers -> an image in [0, 1]: a linear layer to 4×4 pixels, then the discriminator's sizes backwards.

    `size`: the images are resized to this in the end; None: they are not.
    """

    def __init__(self, outside: int, channels: list[int], size: tuple[int, int] | None) -> None:
        super().__init__()
        self.size, self.first = size, channels[-1]
        self.expand = nn.Linear(NOISE, GRID**2 * self.first, bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(self.first), nn.ReLU(inplace=True)]
        inside = self.first
        for between in reversed(channels[:-1]):
            layers += [nn.ConvTranspose2d(inside, between, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(between), nn.ReLU(inplace=True)]
            inside = between
        layers += [nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        draw_weights(self)

    def forward(self, noise: Float[Tensor, "b z"]) -> Float[Tensor, "b c h w"]:
        images = (self.layers(self.expand(noise).view(-1, self.first, GRID, GRID)) + 1) / 2
        return images if self.size is None else resized(images, self.size)


def generator_for(net: Net) -> HalfPrecision:
    """The mirror of the net's discriminator; for another backbone the small one, to the size of the items."""
    spec, own = net.spec, discriminator_of(net)
    channels = channels_of(SMALL if own is None else own.width, side_of(spec))
    made = Generator(spec.channels, channels, (spec.height, spec.width) if own is None else None)
    return HalfPrecision(made, enabled=net.backbone.enabled)


def draw_weights(module: nn.Module) -> None:
    """The paper's: N(0, 0.02²), scales of batch normalisation N(1, 0.02²), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, float(isinstance(layer, nn.BatchNorm2d)), 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@contextmanager
def keeping_statistics(part: nn.Module) -> Iterator[None]:
    """Within it, batch normalisation in training mode does not update its running statistics."""
    norms: list[Any] = [module for module in part.modules() if hasattr(module, "running_mean")]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
