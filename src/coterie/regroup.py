"""What a person does with a fitted Clusterer's groups: merge, name and export them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coterie.export import Exported, Options, export
from coterie.export.items import items_of_result
from coterie.prediction.merging import merged_result, new_merges, new_names
from coterie.prediction.results import ALL_UP_TO
from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.estimator import Clusterer


def merge_groups(fitted: Clusterer, lists: Sequence[Sequence[int]]) -> None:
    """Merge groups of the model and of its result; warns of outsiders that moved. Raises InputError."""
    model = fitted.model_
    merges = new_merges(model, lists)
    if not merges:
        return
    if model.k > ALL_UP_TO and hasattr(fitted, "result_") and not hasattr(fitted, "embedding_"):
        raise InputError(
            f"A result table of {model.k:,} groups stores only the most likely ones, so merged probabilities would not "
            "be exact: merge before the model is saved."
        )
    if hasattr(fitted, "result_"):
        result, moved = merged_result(fitted.result_, merges)
        fitted.result_, fitted.labels_, fitted.confidence_ = result, result.labels.astype(np.int64), result.confidence
        if moved:
            warnings.warn(
                f"merge_groups moved {moved:,} of {len(result.labels):,} items that were in none of the merged groups, "
                "because the merged group is now more likely for them.",
                stacklevel=3,
            )
    model.merges = [*model.merges, *merges]
    model.names = {group: name for group, name in model.names.items() if group not in {gone for gone, _ in merges}}
    if hasattr(fitted, "record_"):
        # A person's judgement took part in these groups: tables of label-free numbers leave the run out.
        fitted.record_ = {**fitted.record_, "labels_used": {"merges": len(model.merges)}}


def rename(fitted: Clusterer, names: Mapping[int, str]) -> None:
    """Give groups of the model names. Raises InputError."""
    fitted.model_.names = new_names(fitted.model_, names)


def export_fitted(fitted: Clusterer, to: str | Sequence[str], out: Any, options: Mapping[str, Any]) -> list[Exported]:
    """Write a fitted Clusterer's groups in one or several formats. Raises InputError."""
    if not hasattr(fitted, "result_"):
        raise InputError("This model was loaded without its result table, so it has no items to export.")
    formats = [name.strip() for name in to.split(",")] if isinstance(to, str) else list(to)
    known = Options.__dataclass_fields__.keys() - {"original"}
    if wrong := sorted(options.keys() - known):
        raise InputError(f"export has no option {wrong[0]!r}; it has {', '.join(sorted(known))}.")
    items = items_of_result(fitted.result_, getattr(fitted, "record_", {}), fitted.model_.names)
    embedding = getattr(fitted, "embedding_", None)
    into = dict(fitted.model_.merges)
    items = replace(items, into=into, embedding=items.embedding if items.embedding is not None else embedding)
    return export(items, formats, Path(os.fspath(out)), Options(**options))
