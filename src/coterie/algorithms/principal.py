"""Principal components of very many features, by scikit-learn's randomised solver."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_SCALE = 1e-4  # of the mean deviation: smaller deviations are rounding errors, which must not be scaled up


def principal_directions(
    rows: Float[Tensor, "n f"], count: int, generator: torch.Generator, *, standardise: bool = True
) -> tuple[Float[Tensor, " f"], Float[Tensor, "m f"]]:
    """Centre and directions: (x - centre) · directionsᵀ are the principal components of the standardised features.

    Without `standardise` they are of the features as they are, so that those that hardly vary stay small. m is `count`,
    or as many as n rows of f features have; identical rows have a direction of zeros. `rows` is overwritten,
    to hold them in memory only once.
    """
    from sklearn.decomposition import PCA

    centre = rows.mean(0)
    scale = rows.std(0, correction=0)
    least = LEAST_SCALE * scale.square().mean().sqrt()
    if not bool(least > 0):
        return centre, rows.new_zeros(1, rows.shape[1])
    scale = scale.clamp(min=float(least)) if standardise else torch.ones_like(scale)
    standardised = rows.sub_(centre).div_(scale).cpu().numpy()
    seed = int(torch.randint(2**31, (), generator=generator))
    found = PCA(min(count, *rows.shape), svd_solver="randomized", copy=False, random_state=seed).fit(standardised)
    return centre, torch.from_numpy(found.components_).to(rows) / scale
