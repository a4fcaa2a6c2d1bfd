from __future__ import annotations

import pytest
import torch

from coterie.algorithms.principal import principal_directions


def rows_of(n: int, f: int, seed: int = 0) -> torch.Tensor:
    """Features of unlike scales with a few strong directions."""
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 4, generator=random) * torch.tensor([9.0, 5.0, 3.0, 2.0])
    mixed = hidden @ torch.randn(4, f, generator=random) + 0.3 * torch.randn(n, f, generator=random)
    return 5 + mixed * torch.logspace(-1, 2, f)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize(("n", "f"), [(200, 30), (50, 120)])
def test_components_are_those_of_the_exact_decomposition(n: int, f: int, standardise: bool) -> None:
    rows = rows_of(n, f)
    scale = rows.std(0, correction=0) if standardise else 1.0
    standardised = ((rows - rows.mean(0)) / scale).double()
    left, singular, _ = torch.linalg.svd(standardised, full_matrices=False)
    exact = (left * singular)[:, :4]
    centre, directions = principal_directions(rows.clone(), 4, generator(), standardise=standardise)
    found = ((rows - centre) @ directions.T).double()
    torch.testing.assert_close(found.var(0), exact.var(0), rtol=0.01, atol=0)
    assert float(torch.nn.functional.cosine_similarity(found[:, 0], exact[:, 0], dim=0).abs()) > 0.999
    products = found.T @ found
    torch.testing.assert_close(products, products.diagonal().diag(), rtol=0, atol=0.01 * float(products.max()))


def test_there_are_no_more_directions_than_rows_or_features() -> None:
    assert principal_directions(rows_of(5, 12), 8, generator())[1].shape == (5, 12)
    assert principal_directions(rows_of(20, 6), 8, generator())[1].shape == (6, 6)


def test_a_feature_that_varies_by_rounding_alone_says_nothing() -> None:
    rows = rows_of(100, 10)
    rows[:, 3] = 7 + 1e-6 * torch.randn(100, generator=generator())
    centre, directions = principal_directions(rows.clone(), 3, generator())
    share = ((rows - centre)[:, 3:4] * directions[:, 3]).norm() / ((rows - centre) @ directions.T).norm()
    assert float(share) < 1e-4


def test_items_all_alike_give_finite_directions() -> None:
    centre, directions = principal_directions(torch.full((6, 4), 2.0), 3, generator())
    assert torch.equal(centre, torch.full((4,), 2.0))
    assert bool(torch.isfinite(directions).all())


def test_the_seed_decides() -> None:
    first, second = (principal_directions(rows_of(300, 60), 5, generator())[1] for _ in range(2))
    assert torch.equal(first, second)
