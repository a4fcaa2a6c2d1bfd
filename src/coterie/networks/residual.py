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
    from torchvision.models.resnet import BasicBlock, conv1x1  # 1.5 s of imports, which a mistyped command can spare

    row, inside = [], width
    for stage, count in enumerate(blocks):
        outside = width * 2**stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = None
            if stride != 1 or inside != outside:
                shortcut = nn.Sequential(conv1x1(inside, outside, stride), nn.BatchNorm2d(outside))
            row.append(BasicBlock(inside, outside, stride, shortcut))
            inside = outside
    stages = nn.Sequential(*row)
    avoid_overrun(stages)
    return stages


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
