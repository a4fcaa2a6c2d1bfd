"""The identity, the backbone of methods that group the items by their own values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.net import Net
from coterie.networks.trunks import trunk
from coterie.networks.unit import unit_rows
from coterie.types import InputError, ItemSpec

MOST_PIXELS = 3 * 64 * 64
ROUNDING = 1e-6  # of a float32, several times over


class Identity(nn.Flatten):
    """`identity`: the pixels of an image in a row, or an embedding as it is."""

    def __init__(self, spec: ItemSpec) -> None:
        super().__init__()
        self.num_features = spec.dim if spec.kind == "embeddings" else spec.channels * spec.height * spec.width


@trunk("identity")
def build_identity(name: str, spec: ItemSpec) -> Identity:
    return Identity(spec)


def own_values(net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The items' own values: what the identity gives, with the net's normalisation undone; other features as they are.

    For distances that depend on the origin, such as the cosine. Rows that were scaled one by one (`views.row_norm`)
    stay scaled.
    """
    if not isinstance(net.backbone.trunk, Identity) or net.row_norm != "none":
        return features
    repeats = features.shape[1] // len(net.mean)  # pixels of a channel
    return (features * net.std.repeat_interleave(repeats)).add_(net.mean.repeat_interleave(repeats))


def grouped_values(
    net: Net, features: Float[Tensor, "n d"], *, angles: bool, centred: bool = False
) -> Float[Tensor, "n d"]:
    """The rows that are grouped where nothing is trained: pixels as they are, embeddings as they were normalised.

    For `angles`, which depend on the origin, own values in both cases, each row scaled to length 1; `centred`: less
    the mean that was subtracted when the items were normalised (for pictures, their channel's). A row of zeros
    stays one.
    """
    if angles and centred:
        return unit_rows(features)
    if angles:
        rows = own_values(net, features)
        # Subtracting the mean from a row of zeros and adding it again leaves rounding errors, which are no direction.
        left = ROUNDING * own_values(net, torch.zeros_like(features[:1])).abs().max()
        return unit_rows(torch.where(rows.abs().amax(1, keepdim=True) > left, rows, 0.0))
    return own_values(net, features) if net.spec.kind == "images" else features


def own_backbone(title: str) -> Callable[[ItemSpec, str, bool], str]:
    """The backbone of the method with this title, which trains nothing: the identity.

    Raises InputError for images of too many pixels, whose single values mean little anyway.
    """

    def chosen(spec: ItemSpec, device: str, as_published: bool) -> str:
        if spec.channels * spec.height * spec.width > MOST_PIXELS:
            raise InputError(
                f"{title} groups images by their pixels, and {spec.height}×{spec.width} are too many: give it the "
                "features of another run by --init RUN or of a backbone by --backbone NAME, or smaller images by "
                "--image-size 64."
            )
        return "identity"

    return chosen
