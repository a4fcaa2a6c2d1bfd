"""Diagonal Gaussian mixtures in log space, and the terms of the evidence lower bound with a mixture as the prior.

Jiang, Zheng, Tan, Tang and Zhou, "Variational Deep Embedding", IJCAI 2017. Weights are logits and variances are
logarithms, so that neither can leave its domain, and densities stay logarithms.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def log_joint(
    z: Float[Tensor, "n d"],
    weights: Float[Tensor, " k"],
    means: Float[Tensor, "k d"],
    log_variances: Float[Tensor, "k d"],
) -> Float[Tensor, "n k"]:
    """log(π_k N(z_i; m_k, λ_k)); `weights` are the logits of π."""
    z = z.float()[:, None]
    squares = (z - means).square() * (-log_variances).exp()
    log_densities = -0.5 * (squares + log_variances + math.log(2 * math.pi)).sum(2)
    return weights.log_softmax(0) + log_densities


def component_divergence(
    mean: Float[Tensor, "n d"],
    log_variance: Float[Tensor, "n d"],
    means: Float[Tensor, "k d"],
    log_variances: Float[Tensor, "k d"],
) -> Float[Tensor, "n k"]:
    """KL of each item's Gaussian N(mean_i, exp(log_variance_i)) from each component of the mixture."""
    mean, log_variance = mean.float()[:, None], log_variance.float()[:, None]
    spread = (log_variance - log_variances).exp()
    apart = (mean - means).square() * (-log_variances).exp()
    return 0.5 * (log_variances - log_variance + spread + apart - 1).sum(2)


def prior_divergence(
    log_posterior: Float[Tensor, "n k"],
    weights: Float[Tensor, " k"],
    components: Float[Tensor, "n k"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Both parts of KL(q(z, c | x) | p(z, c)) of each item: Σ_k γ_k · components_k, and KL(γ | π).

    γ = exp(log_posterior); `components` from `component_divergence`; `weights` are the logits of π. Their sum is the
    paper's Eq. (8) without reconstruction, and its constant.
    """
    posterior = log_posterior.exp()
    choice = (posterior * (log_posterior - weights.log_softmax(0))).sum(1)
    return (posterior * components).sum(1), choice
