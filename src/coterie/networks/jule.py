"""JULE's net: valid 5×5 convolutions of 50 channels with pooling, as in the authors' code (jwyang/JULE.torch)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.trunks import check_side, trunk
from coterie.types import ItemSpec

NAME = "jule"
CHANNELS, KERNEL = 50, 5
SMALL_MAP = 6  # pixels of a side at which no further stage follows


class JuleNet(nn.Module):
    """Stages of a 5×5 convolution, batch normalisation, ReLU and a 2×2 max-pool that rounds up; the last map in a row.

    Two stages for 28 and 32 pixels (5×5×50 at last), three for 64, four for 96.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        while min(height, width) >= KERNEL and (not layers or min(height, width) > SMALL_MAP):
            convolution = nn.Conv2d(channels, CHANNELS, KERNEL)
            nn.init.normal_(convolution.weight, std=0.01)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            pool = nn.MaxPool2d(2, ceil_mode=True)
            layers += [convolution, nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True), pool]
            channels, height, width = CHANNELS, _after(height), _after(width)
        self.layers = nn.Sequential(*layers)
        self.num_features = CHANNELS * height * width

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images).flatten(1)


def _after(side: int) -> int:
    """A side in pixels after one stage."""
    return -(-(side - KERNEL + 1) // 2)


@trunk(NAME)
def build_jule(name: str, spec: ItemSpec) -> JuleNet:
    """Raises InputError for images of fewer than 5 pixels a side."""
    check_side(name, spec, KERNEL)
    return JuleNet(spec.channels, spec.height, spec.width)
