"""Rows of length 1, whatever the size of their values."""

from __future__ import annotations

import pytest
import torch

from coterie.networks.unit import unit_rows


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-12, 1.0, 1e12, 1e19, 1e37])
def test_a_direction_does_not_depend_on_the_length(size: float) -> None:
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    expected = rows.double() / rows.double().norm(dim=1, keepdim=True)
    found = unit_rows(torch.cat([rows[:25], rows[25:] * size]))
    assert torch.allclose(found.double(), expected, atol=1e-6 if size > 1e-35 else 1e-3)  # the smallest have few digits


def test_rows_of_zeros_stay_and_ordinary_rows_are_those_of_pytorch() -> None:
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    rows[3] = 0
    assert torch.equal(unit_rows(rows), torch.nn.functional.normalize(rows, dim=1))
    assert not unit_rows(torch.cat([rows[3:4], rows[4:5] * 1e25]))[0].any()
