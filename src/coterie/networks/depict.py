"""DEPICT's auto-encoder: two strided convolutions and a short code, back through the same sizes, layer by layer.

Ghasedi Dizaji, Herandi, Deng, Cai and Huang, "Deep Clustering via Joint Convolutional Autoencoder Embedding and
Relative Entropy Minimization", ICCV 2017. The encoder is the backbone `depict`, with a code of 10 numbers, or
`depict-20` with 20: the paper has as many as groups. It sees pixels from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.heads import SteadyLinear
from coterie.networks.net import Net
from coterie.networks.trunks import check_side, trunk
from coterie.types import InputError, ItemSpec

NAME, CODE, MAPS = "depict", 10, 50
KERNELS = (4, 5)  # pixels; the first convolution sees no border, the second one has its own size
SLOPE = 0.01  # of the leaky ReLU

Noise = Callable[[Tensor], Tensor]


@trunk(NAME, f"{NAME}-")
def build_encoder(name: str, spec: ItemSpec) -> DepictEncoder:
    """The encoder of that name. Raises InputError for another one, embeddings, and images below 4 pixels."""
    width = name.removeprefix(NAME).removeprefix("-") or str(CODE)
    if not width.isdigit() or not 1 <= int(width) <= 65_536:
        raise InputError(
            f"Unknown backbone {name!r}: DEPICT's encoders are 'depict' and, for a longer code, 'depict-20'."
        )
    if spec.kind != "images":
        raise InputError(f"Backbone {name!r} reads images, but the source holds embeddings: use another one.")
    check_side(name, spec, KERNELS[0])
    return DepictEncoder(spec, int(width))


def sizes_of(spec: ItemSpec) -> list[tuple[int, int]]:
    """Height and width of the image and of both maps."""
    first = ((spec.height - KERNELS[0]) // 2 + 1, (spec.width - KERNELS[0]) // 2 + 1)
    return [(spec.height, spec.width), first, ((first[0] - 1) // 2 + 1, (first[1] - 1) // 2 + 1)]


class DepictEncoder(nn.Module):
    """Images in [0, 1] -> the code (b, d), from -1 to 1."""

    def __init__(self, spec: ItemSpec, width: int) -> None:
        super().__init__()
        self.num_features = width
        height, breadth = sizes_of(spec)[-1]
        self.first = nn.Conv2d(spec.channels, MAPS, KERNELS[0], stride=2)
        self.second = nn.Conv2d(MAPS, MAPS, KERNELS[1], stride=2, padding=KERNELS[1] // 2)
        self.code = SteadyLinear(MAPS * height * breadth, width)
        draw_weights(self)

    def layers(self, images: Float[Tensor, "b c h w"], noise: Noise = lambda x: x) -> tuple[Tensor, ...]:
        """Input, both maps and the code; input and first map pass through the noise before the next layer."""
        seen = 2 * images - 1
        first = F.leaky_relu(self.first(noise(seen)), SLOPE)
        second = F.leaky_relu(self.second(noise(first)), SLOPE)
        # The code has few values, and distances between codes decide: no half precision here.
        with torch.autocast(images.device.type, enabled=False):
            return seen, first, second, self.code(second.flatten(1).float()).tanh()

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images)[-1]


class Decoder(nn.Module):
    """The code -> reconstructions of input and both maps, in the encoder's order. It takes the encoder's sizes."""

    def __init__(self, spec: ItemSpec, width: int) -> None:
        super().__init__()
        image, first, self.size = sizes_of(spec)
        self.expand = nn.Linear(width, MAPS * self.size[0] * self.size[1])
        self.second = nn.ConvTranspose2d(
            MAPS, MAPS, KERNELS[1], stride=2, padding=KERNELS[1] // 2, output_padding=_left(first, self.size, 1)
        )
        self.first = nn.ConvTranspose2d(
            MAPS, spec.channels, KERNELS[0], stride=2, output_padding=_left(image, first, KERNELS[0])
        )
        draw_weights(self)

    def forward(self, code: Float[Tensor, "b d"]) -> tuple[Tensor, Tensor, Tensor]:
        second = F.leaky_relu(self.expand(code), SLOPE).view(-1, MAPS, *self.size)
        first = F.leaky_relu(self.second(second), SLOPE)
        return self.first(first).tanh(), first, second


def _left(large: tuple[int, int], small: tuple[int, int], reach: int) -> tuple[int, int]:
    """Rows and columns that a stride of 2 left out at the end: sides of 13 and of 14 may both become 7."""
    return large[0] - 2 * (small[0] - 1) - reach, large[1] - 2 * (small[1] - 1) - reach


def encoder_of(net: Net) -> DepictEncoder:
    """The net's encoder. Raises InputError for another backbone, whose layers have no decoder."""
    found = net.backbone.trunk
    if not isinstance(found, DepictEncoder):
        raise InputError(
            "DEPICT rebuilds the layers of its own encoder, which no other backbone has: leave --backbone or --init "
            "out, or take --backbone depict-20 for a code of 20 numbers."
        )
    return found


def draw_weights(module: nn.Module) -> None:
    """The authors': Glorot's uniform weights, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
