"""A batch as the only process of a run gets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from coterie.types import Batch, OneProcess


def batch_of_views(views: Mapping[str, Tensor], **given: Any) -> Batch:
    """The first rows of a source, in their order, all in one part, when training begins; `given`: what is otherwise."""
    rows = len(next(iter(views.values())))
    usual = {"part_size": rows, "progress": 0.0, "generator": torch.Generator(), "share": OneProcess()}
    return Batch(given.pop("index", torch.arange(rows)), views, **usual | given)
