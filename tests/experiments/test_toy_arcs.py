from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Any:
    import toy_arcs

    monkeypatch.setattr(toy_arcs, "EPOCHS", 3)
    return toy_arcs


def test_the_arcs_are_four_thin_half_circles_apart_from_each_other(toy: Any) -> None:
    points, truth = toy.arcs(0)
    assert points.shape == (2000, 2)
    torch.testing.assert_close(points.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert np.bincount(truth).tolist() == [500] * 4
    assert toy.measure(points, truth, torch.Generator())["true_neighbours"] > 0.999
    assert torch.equal(toy.arcs(0)[0], points)


@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_both_second_phases_start_from_the_same_first_one(toy: Any, kind: str) -> None:
    numbers, codes = toy.run(kind, 0)
    assert list(numbers) == ["reconstruction", "dec", "rdc"]
    first, dec, rdc = (codes[stage] for stage in numbers)
    assert 0 < np.abs(dec - first).max() < np.abs(first).max()  # three epochs lead nowhere far
    assert 0 < np.abs(rdc - first).max() < np.abs(first).max()
    again, _ = toy.run(kind, 0)
    assert again == numbers
