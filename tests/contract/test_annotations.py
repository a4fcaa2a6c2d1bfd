"""Annotations are checked in all tests (`tests/conftest.py`); here is one that must fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

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


@checked
def rows(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"], returned: int) -> Float[Tensor, "n d"] | None:
    return x[:returned] if returned else None


def test_what_was_right_once_is_checked_again_where_a_shape_a_type_or_a_result_differs() -> None:
    x, y = torch.zeros(4, 3), torch.zeros(4, 2)
    for _ in range(3):
        assert rows(x, y, 4) is not None
        for wrong in ((x, y[:3]), (x.long(), y), (x, y[0]), (x.double(), None), (list(x), y)):
            with pytest.raises(TypeCheckError):
                rows(*wrong, 4)  # type: ignore[arg-type]
        assert rows(x, y, 0) is None
        with pytest.raises(TypeCheckError, match="return"):
            rows(x, y, 3)
        assert rows(x[:3], y[:3], 3) is not None


@checked
def summed(given: list[Float[Tensor, " n"]]) -> Float[Tensor, " n"]:
    return torch.stack(given).sum(0)


def test_what_a_list_holds_is_looked_at_each_time() -> None:
    for _ in range(3):
        summed([torch.zeros(3)])
        with pytest.raises(TypeCheckError):
            summed([torch.zeros(3, 1)])
