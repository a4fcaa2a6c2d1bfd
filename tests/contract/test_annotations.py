"""Annotations are checked in all tests (`tests/conftest.py`); here is one that must fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from coterie.networks.backbones import BackboneChoice
from coterie.networks.heads import standardise_rows
from coterie.objectives.contrastive import info_nce
from coterie.training.device import PrecisionChoice
from coterie.training.seeds import generator_of
from helpers.checked import checked


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


def test_each_of_two_classes_of_the_same_fields_keeps_its_own_types() -> None:
    assert BackboneChoice("small-4", "asked for").name == "small-4"
    with pytest.raises(TypeCheckError, match="name='small-4'"):
        PrecisionChoice("small-4", "asked for")  # type: ignore[arg-type]


def test_a_function_within_another_is_checked_each_time_it_is_made() -> None:
    def maker(factor: int) -> Any:
        @checked
        def times(number: int) -> int:
            return number * factor

        return times

    assert [maker(factor)(5) for factor in (2, 3)] == [10, 15]
    for factor in (2, 3):
        with pytest.raises(TypeCheckError, match="number='5'"):
            maker(factor)("5")
