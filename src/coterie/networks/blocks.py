"""DDC-UCO's convolutional net, and the maps of a backbone's blocks, for losses that look at more than the features.

Trosten, Løkse, Jenssen and Kampffmeyer's code (DanielTrosten/tk-uco, `cnn_small`): two blocks of two convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.early import early_part
from coterie.networks.net import Net
from coterie.networks.sobel import WithSobel
from coterie.networks.trunks import check_side, trunk
from coterie.types import InputError, ItemSpec

NAME = "ddc-uco"
CHANNELS = 32
VALID_FROM = 20  # pixels: smaller images get padding, since four convolutions without it would leave nothing
LEAST = 4


class TwoBlocks(nn.Module):
    """Two 5×5 and two 3×3 convolutions of 32 channels, the second of each pair with batch normalisation.

    Max-pools of 2×2 after each pair; the features are the last map in a row. `first` ends before its pool, `second`
    behind it, as in the authors' code.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        valid = min(height, width) >= VALID_FROM
        self.first = nn.Sequential(*_pair(channels, 5, valid))
        self.second = nn.Sequential(nn.MaxPool2d(2), *_pair(CHANNELS, 3, valid), nn.MaxPool2d(2))
        self.num_features = CHANNELS * _last_side(height, valid) * _last_side(width, valid)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.second(self.first(images)).flatten(1)


def _pair(channels: int, kernel: int, valid: bool) -> list[nn.Module]:
    layers = [nn.Conv2d(inside, CHANNELS, kernel, padding=0 if valid else "same") for inside in (channels, CHANNELS)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return [layers[0], nn.ReLU(inplace=True), layers[1], nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)]


def _last_side(side: int, valid: bool) -> int:
    return ((side - 8) // 2 - 4) // 2 if valid else side // 2 // 2


@trunk(NAME)
def build_two_blocks(name: str, spec: ItemSpec) -> TwoBlocks:
    """Raises InputError for images of fewer than 4 pixels a side."""
    check_side(name, spec, LEAST)
    return TwoBlocks(spec.channels, spec.height, spec.width)


@contextmanager
def block_maps(net: Net) -> Iterator[list[Tensor]]:
    """Within it, the maps (b, c, h, w) of a pass through the backbone are appended, in float32 and in order.

    The maps are those of both blocks of `ddc-uco`, the early map of other nets for which it is known
    (`networks.early`), and none for all others.
    """
    kept: list[Tensor] = []
    handles = [
        part.register_forward_hook(lambda part, given, found: kept.append(found.float())) for part in _blocks(net)
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _blocks(net: Net) -> list[nn.Module]:
    outer = net.backbone.trunk
    inner = outer.trunk if isinstance(outer, WithSobel) else outer
    if isinstance(inner, TwoBlocks):
        return [inner.first, inner.second]
    try:
        return [early_part(net)]
    except InputError:
        return []
