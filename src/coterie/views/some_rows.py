"""Change some rows of a batch only: an operation on a fifth of the images should cost a fifth."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor


def update_rows(
    images: Float[Tensor, "b c h w"],
    chosen: Bool[Tensor, " b"],
    operation: Callable[..., Tensor],
    *parameters: Tensor,
) -> None:
    """Replace, in place, the chosen images by `operation(images, *parameters)` of those rows alone."""
    rows = chosen.nonzero().squeeze(1)
    if len(rows):
        picked = [parameter.index_select(0, rows) for parameter in parameters]
        images.index_copy_(0, rows, operation(images.index_select(0, rows), *picked))
