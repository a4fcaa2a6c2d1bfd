"""The early map of a backbone: the output of its first layers, for losses that compare it with the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from coterie.networks.net import Net
from coterie.networks.sobel import WithSobel
from coterie.types import InputError

PARTS = ("early", "stem", "layer1")  # of plain nets, of ours and PICA's, of timm's ResNets


def early_part(net: Net) -> nn.Module:
    """The layers whose output is the early map. Raises InputError for a backbone for which they are not known."""
    trunk = net.backbone.trunk
    inner = trunk.trunk if isinstance(trunk, WithSobel) else trunk
    for name in PARTS:
        if isinstance(part := getattr(inner, name, None), nn.Module):
            return part
    raise InputError(
        "This method compares early maps of the backbone, and of this one they are not known: "
        "take --backbone small-16, dccm or a ResNet of timm's, and leave --init out."
    )


@contextmanager
def early_maps(net: Net) -> Iterator[list[Tensor]]:
    """Within it, the early map (b, c, h, w) of each pass through the backbone is appended, in float32."""
    kept: list[Tensor] = []
    handle = early_part(net).register_forward_hook(lambda part, given, found: kept.append(found.float()))
    try:
        yield kept
    finally:
        handle.remove()


def early_channels(net: Net) -> int:
    """Channels of the early map, read from its layers, since a model that is being loaded cannot compute yet."""
    return [layer.num_features for layer in early_part(net).modules() if isinstance(layer, nn.BatchNorm2d)][-1]
