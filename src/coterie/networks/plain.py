"""Plain convolutional nets: those of DAC and DCCM, valid 3×3 convolutions with batch normalisation and pooling."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.trunks import check_side, trunk
from coterie.types import ItemSpec

POOL = 0  # a 2×2 max-pool in place of a width
PLANS = {
    "dac": (64, 64, POOL, 128, 128, POOL),
    "dac-large": (64, 64, 64, POOL, 128, 128, 128, POOL, 256, 256, 256, POOL),
    "dccm": (64, 64, POOL, 128, POOL, 256),
}


class PlainNet(nn.Module):
    """Convolutions of the plan's widths, each with batch normalisation and ReLU, and the mean over the last map.

    `early` is the part up to the first pool. The mean is the code's last pooling for the published sizes: of DCCM over
    4×4 of 32 pixels; DAC's code has a 1×1 convolution before it, which here is the head's (docs/methods/dac.md).
    """

    def __init__(self, channels: int, plan: tuple[int, ...]) -> None:
        super().__init__()
        first = plan.index(POOL) + 1
        self.early = _layers(channels, plan[:first])
        self.rest = _layers(plan[first - 2], plan[first:])
        self.num_features = max(plan)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.rest(self.early(images)).mean((2, 3))


def _layers(channels: int, plan: tuple[int, ...]) -> nn.Sequential:
    row: list[nn.Module] = []
    for width in plan:
        if width == POOL:
            row.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(channels, width, 3)
        nn.init.kaiming_normal_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        row += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*row)


def _last_side(side: int, plan: tuple[int, ...]) -> int:
    for width in plan:
        side = side // 2 if width == POOL else side - 2
    return side


@trunk(*PLANS)
def build_plain(name: str, spec: ItemSpec) -> PlainNet:
    """Raises InputError for images that are too small for such convolutions."""
    plan = PLANS[name]
    check_side(name, spec, next(side for side in range(1, 1000) if _last_side(side, plan) >= 1))
    return PlainNet(spec.channels, plan)
