"""Wide residual nets, the backbones of FixMatch and SPICE-3: `wrn-28-2`, `wrn-28-8`, `wrn-37-2` and others alike.

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, in FixMatch's form: leaky ReLUs, and normalisation and
activation before every convolution. `wrn-28-N` has three stages of four blocks on images at their own size; `wrn-37-N`
is SPICE's for STL-10, four stages of four blocks that halve the image each, the first one too. N is the width.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from coterie.networks.residual import kaiming_convolutions
from coterie.networks.trunks import trunk
from coterie.types import InputError, ItemSpec

FIRST, BLOCKS, SLOPE = 16, 4, 0.1
STRIDES = {"wrn-28-": (1, 2, 2), "wrn-37-": (2, 2, 2, 2)}


class WideResNet(nn.Module):
    """Stages of `BLOCKS` blocks with 16, 32, 64, ... times `width` channels, each beginning with its stride."""

    def __init__(self, channels: int, width: int, strides: Sequence[int]) -> None:
        super().__init__()
        row: list[nn.Module] = [nn.Conv2d(channels, FIRST, 3, 1, 1, bias=False)]
        inside = FIRST
        for stage, stride in enumerate(strides):
            outside = FIRST * width * 2**stage
            for block in range(BLOCKS):
                row.append(WideBlock(inside, outside, stride if block == 0 else 1))
                inside = outside
        self.num_features = inside
        self.stages = nn.Sequential(*row, nn.BatchNorm2d(inside), nn.LeakyReLU(SLOPE, inplace=True))
        kaiming_convolutions(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.stages(images).mean((2, 3))


class WideBlock(nn.Module):
    """Normalisation, activation and a 3×3 convolution, twice, and a shortcut around them.

    Where the width changes, the shortcut is a 1×1 convolution of what the first activation gives.
    """

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        same = inside == outside and stride == 1
        self.shortcut = None if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        active = F.leaky_relu(self.first_norm(x), SLOPE)
        changed = self.second(F.leaky_relu(self.second_norm(self.first(active)), SLOPE))
        return changed + (x if self.shortcut is None else self.shortcut(active))


@trunk(*STRIDES)
def build_wide(name: str, spec: ItemSpec) -> WideResNet:
    """A net such as `wrn-28-2`. Raises InputError for an invalid width."""
    stem, _, width = name.rpartition("-")
    if not width.isdigit() or not 1 <= int(width) <= 64:
        raise InputError(f"Unknown backbone {name!r}: the wide residual nets are such as 'wrn-28-2' and 'wrn-37-2'.")
    return WideResNet(spec.channels, int(width), STRIDES[f"{stem}-"])
