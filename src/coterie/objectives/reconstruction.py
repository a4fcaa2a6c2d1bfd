"""What a reconstruction costs, item by item: cross-entropy for pixels in [0, 1], squared error for embeddings."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from coterie.networks.autoencoder import flat
from coterie.networks.net import Net


def pixels_of(net: Net, view: Tensor) -> Float[Tensor, "b x"]:
    """A normalised view's pixels as they were, in [0, 1]: what Bernoulli means are compared with."""
    return flat(view * net.std.view(-1, 1, 1) + net.mean.view(-1, 1, 1)).clamp(0, 1)


def reconstruction_cost(net: Net, view: Tensor, decoded: Float[Tensor, "b x"]) -> Float[Tensor, " b"]:
    """-log p(x | z) up to a constant, summed over an item's values.

    Images: `decoded` holds logits of Bernoulli means, whose data are pixels. Embeddings: means of Gaussians of variance
    1/2, so that it is the squared error.
    """
    if net.spec.kind != "images":
        return (decoded - flat(view)).square().sum(1)
    return F.binary_cross_entropy_with_logits(decoded, pixels_of(net, view), reduction="none").sum(1)


def standard_divergence(mean: Float[Tensor, "b d"], log_variance: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """KL of N(mean, exp(log_variance)) from N(0, I), of each item (Kingma and Welling, appendix B)."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
