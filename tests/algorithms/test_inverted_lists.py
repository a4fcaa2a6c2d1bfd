"""Approximate neighbours by inverted lists."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from coterie.algorithms import inverted_lists
from helpers.draws import seeded
from helpers.mixtures import mixture

pytest.importorskip("faiss")


def slowly(rows: Tensor, asked: Tensor, centres: Tensor, count: int, looked_at: int) -> list[Tensor]:
    """Each query's smallest squared distances to the points of its nearest lists, in float64."""
    rows, asked, centres = rows.double(), asked.double(), centres.double()
    own = torch.cdist(rows, centres).argmin(dim=1)
    found = []
    for query in asked:
        lists = torch.cdist(query[None], centres)[0].topk(looked_at, largest=False).indices
        points = rows[torch.isin(own, lists)]
        found.append((points - query).square().sum(dim=1).sort().values[:count])
    return found


@pytest.mark.parametrize(
    ("block", "looks", "looked_at", "count"),
    [(1 << 22, 1 << 23, 4, 9), (900, 1500, 4, 9), (1 << 22, 1, 4, 9), (5000, 1 << 23, 1, 40)],
)
def test_they_are_the_nearest_points_of_the_nearest_lists(
    block: int, looks: int, looked_at: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inverted_lists, "BLOCK", block)
    monkeypatch.setattr(inverted_lists, "LOOKS", looks)
    rows = 50 + mixture(600, d=8)[0]  # far from the origin
    asked = rows if looked_at == 4 else rows[:50] + 0.1 * torch.randn(50, 8, generator=seeded())
    found = inverted_lists.candidates(rows, asked, count, looked_at)
    assert found.shape == (len(asked), count)
    expected = slowly(rows, asked, inverted_lists.trained(rows), count, looked_at)
    for query, index, distances in zip(asked, found, expected, strict=True):
        index = index[index >= 0]
        assert len(index.unique()) == len(index) == len(distances)
        near = (rows[index] - query).double().square().sum(dim=1).sort().values
        torch.testing.assert_close(near, distances, rtol=1e-4, atol=1e-4)


def test_few_points_and_equal_ones_are_found() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert set(inverted_lists.candidates(rows, rows[:1], 3)[0].tolist()) == {0, 1, 2}
