"""Annotations are checked in all tests (`tests/conftest.py`); here is one that must fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from coterie.networks.heads import standardise_rows
from coterie.objectives.contrastive import info_nce
from coterie.training.seeds import generator_of


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(3, 2, dtype=torch.int64), [[1.0, 2.0]]])
def test_a_tensor_of_another_shape_or_type_is_caught(wrong: Any) -> None:
    with pytest.raises(TypeCheckError, match="features"):
        standardise_rows(wrong)


def test_sizes_that_must_agree_are_compared() -> None:
    with pytest.raises(TypeCheckError, match="keys"):
        info_nce(torch.ones(4, 3), torch.ones(5, 3), torch.ones(6, 3), 0.2)


def test_what_is_no_number_is_caught() -> None:
    with pytest.raises(TypeCheckError):
        generator_of(1.5)  # type: ignore[arg-type]
