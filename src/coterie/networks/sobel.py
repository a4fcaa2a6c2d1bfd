"""A fixed Sobel filter in front of a backbone: it sees edges only, so groups cannot form by colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from coterie.types import ItemSpec

CHANNELS = 2  # left minus right, top minus bottom


class SobelFront(nn.Module):
    """The mean of the channels (none for grey images), then both Sobel derivatives, signed, at the same resolution.

    It works on normalised images and pads with 0, the data's mean: a flat image of another brightness has edges at its
    border. Always float32, since differences of neighbours are what half precision loses. Nothing in it is trained or
    stored.
    """

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        self.register_buffer("kernels", torch.stack([across, across.T])[:, None], persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 h w"]:
        with torch.autocast(images.device.type, enabled=False):
            return F.conv2d(images.float().mean(1, keepdim=True), self.kernels, padding=1)


class WithSobel(nn.Module):
    """A backbone for two channels behind the Sobel filter."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.num_features = cast(int, trunk.num_features)
        self.sobel, self.trunk = SobelFront(), trunk

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.trunk(self.sobel(images))


def behind_sobel(published: str) -> Callable[[ItemSpec, str, bool], str]:
    """What `auto` means for a method that looks at edges, for `Card.backbone`.

    Its published net, or on a CPU the small one, since the filter removes colours anyway.
    """

    def backbone(spec: ItemSpec, device: str, as_published: bool) -> str:
        if as_published or not device.startswith("cpu"):
            return f"sobel+{published}"
        return "sobel+small-16" if max(spec.height, spec.width) <= 32 else "sobel+small-32"

    return backbone
