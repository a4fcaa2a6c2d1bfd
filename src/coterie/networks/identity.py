"""No network at all: methods that group the items by their own values use it as their backbone."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.net import Net
from coterie.types import ItemSpec


class Identity(nn.Flatten):
    """`identity`: the pixels of an image in a row, or an embedding as it is."""

    def __init__(self, spec: ItemSpec) -> None:
        super().__init__()
        self.num_features = spec.dim if spec.kind == "embeddings" else spec.channels * spec.height * spec.width


def own_values(net: Net, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The items' own values: what the identity gives, with the net's normalisation undone; other features as they are.

    For distances to which it matters where 0 lies, such as the cosine. Rows that were scaled each by itself
    (`views.row_norm`) stay so.
    """
    if not isinstance(net.backbone.trunk, Identity) or net.row_norm != "none":
        return features
    repeats = features.shape[1] // len(net.mean)  # pixels of a channel
    return features * net.std.repeat_interleave(repeats) + net.mean.repeat_interleave(repeats)
