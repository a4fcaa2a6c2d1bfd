"""The terms of VaDE's bound, with torch.distributions as the oracle."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from coterie.objectives.mixture import component_divergence, log_joint, prior_divergence

N, D = 4, 3


def drawn(seed: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Means and log variances of items, logits, means and log variances of the mixture."""
    g = torch.Generator().manual_seed(seed)
    sizes = ((N, D), (N, D), (k,), (k, D), (k, D))
    mean, log_variance, weights, means, log_variances = (torch.randn(*size, generator=g) for size in sizes)
    return mean, log_variance, weights, means, log_variances


@given(st.integers(0, 100), st.integers(1, 5))
@example(29, 1)
@settings(max_examples=20, deadline=None)
def test_the_joint_and_the_posterior_are_those_of_a_mixture(seed: int, k: int) -> None:
    z, _, weights, means, log_variances = drawn(seed, k)
    components = Independent(Normal(means, (0.5 * log_variances).exp()), 1)
    mixture = MixtureSameFamily(Categorical(logits=weights), components)
    joint = log_joint(z, weights, means, log_variances)
    torch.testing.assert_close(joint.logsumexp(1), mixture.log_prob(z), rtol=1e-4, atol=1e-4)
    # In float64: a far component's density is 0 in float32, and of a single one 0 / 0 would be left.
    densities = components.log_prob(z[:, None]).double().exp() * weights.softmax(0)
    shares = (densities / densities.sum(1, keepdim=True)).float()
    torch.testing.assert_close(joint.softmax(1), shares, rtol=1e-3, atol=1e-4)


@given(st.integers(0, 100), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_the_divergences_are_those_of_torch(seed: int, k: int) -> None:
    mean, log_variance, weights, means, log_variances = drawn(seed, k)
    item = Normal(mean[:, None], (0.5 * log_variance[:, None]).exp())
    expected = kl_divergence(item, Normal(means, (0.5 * log_variances).exp())).sum(2)
    components = component_divergence(mean, log_variance, means, log_variances)
    torch.testing.assert_close(components, expected, rtol=1e-4, atol=1e-4)
    log_posterior = log_joint(mean, weights, means, log_variances).log_softmax(1)
    within, choice = prior_divergence(log_posterior, weights, components)
    torch.testing.assert_close(within, (log_posterior.exp() * expected).sum(1), rtol=1e-4, atol=1e-4)
    posterior = Categorical(logits=log_posterior)
    prior = Categorical(logits=weights)
    torch.testing.assert_close(choice, kl_divergence(posterior, prior), rtol=1e-3, atol=1e-4)


def test_the_sum_is_the_papers_bound_written_out() -> None:
    """Eq. (8) term by term, as the specification has it, without the reconstruction."""
    mean, log_variance, weights, means, log_variances = drawn(7, 3)
    log_posterior = log_joint(mean, weights, means, log_variances).log_softmax(1)
    within, choice = prior_divergence(
        log_posterior, weights, component_divergence(mean, log_variance, means, log_variances)
    )
    pi, gamma = weights.softmax(0), log_posterior.exp()
    for i in range(N):
        total = 0.0
        for k in range(3):
            for j in range(D):
                lam = float(log_variances[k, j].exp())
                total += 0.5 * float(gamma[i, k]) * (
                    float(log_variances[k, j])
                    + float(log_variance[i, j].exp()) / lam
                    + float(mean[i, j] - means[k, j]) ** 2 / lam
                )  # fmt: skip
            total -= float(gamma[i, k] * (pi[k] / gamma[i, k]).log())
        total -= 0.5 * sum(1 + float(log_variance[i, j]) for j in range(D))
        torch.testing.assert_close(within[i] + choice[i], torch.tensor(total), rtol=1e-4, atol=1e-4)


def test_far_points_and_tiny_variances_stay_finite() -> None:
    mean = torch.full((2, D), 100.0, requires_grad=True)
    weights, means, log_variances = torch.zeros(2), torch.tensor([[0.0] * D, [1.0] * D]), torch.full((2, D), -6.0)
    log_posterior = log_joint(mean, weights, means, log_variances).log_softmax(1)
    within, choice = prior_divergence(
        log_posterior, weights, component_divergence(mean, torch.zeros(2, D), means, log_variances)
    )
    (within + choice).sum().backward()
    assert bool((within + choice).isfinite().all())
    assert mean.grad is not None
    assert bool(mean.grad.isfinite().all())
