"""Residual nets of basic blocks: the stages that they share, and the variant of ResNet-34 that IIC and PICA have."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.strided import avoid_overrun
from coterie.networks.trunks import trunk
from coterie.types import ItemSpec


def residual_stages(width: int, blocks: Sequence[int]) -> nn.Sequential:
    """Basic blocks in a row: blocks[0] of `width` channels, blocks[1] of twice as many, ...; each stage after the first
    halves the image. Where size or width changes, the shortcut is a 1×1 convolution with batch normalisation."""
    row, inside = [], width
    for stage, count in enumerate(blocks):
        outside = width * 2**stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = None
            if stride != 1 or inside != outside:
                shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
            row.append(ResidualBlock(inside, outside, stride, shortcut))
            inside = outside
    stages = nn.Sequential(*row)
    avoid_overrun(stages)
    return stages


class ResidualBlock(nn.Module):
    """The basic block of He et al. 2016: two 3×3 convolutions, each normalised, and a shortcut around both.

    Names and order of the layers are those of torchvision's `BasicBlock`, so that its weights fit: to import that takes
    seconds.
    """

    def __init__(self, inside: int, outside: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = shortcut

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        changed = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        changed += x if self.downsample is None else self.downsample(x)
        return self.relu(changed)


def kaiming_convolutions(net: nn.Module) -> None:
    """Draw the weights of all convolutions anew: normal, variance 2 / fan out."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class PicaResNet34(nn.Module):
    """ResNet-34 as in IIC's and PICA's code: a 3×3 stem, a 2×2 max-pool of padding 1: 32 pixels become 17, 9, 5, 3.

    Weights begin as PyTorch's layers do, as in PICA's code; with `kaiming` as IIC's convolutions do. The average over
    the last map is the code's pooling by 3, 5 or 7 for 32, 64 or 96 pixels, and takes other sizes, too.
    """

    num_features = 512

    def __init__(self, channels: int, *, kaiming: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 64, 3, 1, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, 2, padding=1),
        )
        self.stages = residual_stages(64, (3, 4, 6, 3))
        if kaiming:
            kaiming_convolutions(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.stages(self.stem(images)).mean((2, 3))


@trunk("pica-resnet34", "iic-resnet34")
def build_pica(name: str, spec: ItemSpec) -> PicaResNet34:
    return PicaResNet34(spec.channels, kaiming=name == "iic-resnet34")
