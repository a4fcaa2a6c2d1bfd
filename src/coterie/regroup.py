"""What a person does with a fitted Clusterer's groups: merge, name and export them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coterie.common.arguments import flag, path_from, text, whole_number
from coterie.common.isolation import warn_caller
from coterie.evaluation.recalibration import with_confidence
from coterie.export import Exported, Options, export
from coterie.export.items import items_of_result
from coterie.prediction.merging import merge_columns, merged_result, new_merges, new_names
from coterie.prediction.results import ALL_UP_TO, ResultTable
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
            warn_caller(
                f"merge_groups moved {moved:,} of {len(result.labels):,} items that were in none of the merged groups, "
                "because the merged group is now more likely for them."
            )
    model.merges = [*model.merges, *merges]
    if hasattr(fitted, "ensemble_"):
        fitted.ensemble_ = merged_ensemble(fitted.ensemble_, model.merges)
    model.names = {group: name for group, name in model.names.items() if group not in {gone for gone, _ in merges}}
    if hasattr(fitted, "record_"):
        # A person's judgement took part in these groups: tables of label-free numbers leave the run out.
        used = {**(fitted.record_.get("labels_used") or {}), "merges": len(model.merges)}
        fitted.record_ = {**fitted.record_, "labels_used": used}


def merged_ensemble(ensemble: ResultTable, merges: Sequence[tuple[int, int]]) -> ResultTable:
    """The answer of several runs for the medoid's groups after all these merges, as `several.gather` makes it."""
    heads = {name: merge_columns(p, merges) for name, p in ensemble.heads.items()}
    single = heads["single"]
    labels, gone = single.argmax(1), {group for group, _ in merges}
    live = [group for group in range(ensemble.k) if group not in gone]
    heads["ensemble"] = np.zeros_like(single)
    heads["ensemble"][:, live] = with_confidence(single[:, live], heads["mean"][np.arange(len(labels)), labels])
    return replace(ensemble, labels=labels, confidence=heads["ensemble"].max(1), heads=heads)


def rename(fitted: Clusterer, names: Mapping[int, str]) -> None:
    """Give groups of the model names. Raises InputError."""
    fitted.model_.names = new_names(fitted.model_, names)


def export_fitted(fitted: Clusterer, to: str | Sequence[str], out: Any, options: Mapping[str, Any]) -> list[Exported]:
    """Write a fitted Clusterer's groups in one or several formats. Raises InputError."""
    if not hasattr(fitted, "result_"):
        raise InputError("This model was loaded without its result table, so it has no items to export.")
    formats = _formats(to)
    chosen = _options(options)
    items = items_of_result(fitted.result_, getattr(fitted, "record_", {}), fitted.model_.names)
    embedding = getattr(fitted, "embedding_", None)
    into = dict(fitted.model_.merges)
    items = replace(items, into=into, embedding=items.embedding if items.embedding is not None else embedding)
    return export(items, formats, Path(os.fspath(out)), chosen)


def _formats(to: Any) -> list[str]:
    if isinstance(to, str):
        return [name.strip() for name in to.split(",")]
    if not isinstance(to, list | tuple):
        raise InputError(f"to is {repr(to)[:80]}: it takes the name of a format or a list of them.")
    return [text(name, "A format") for name in to]


def _options(given: Mapping[str, Any]) -> Options:
    """The options as Python gives them: a path may be a Path, and what is of a wrong type is named."""
    reads: dict[str, Callable[[Any, str], Any]] = {
        "only": text,
        "link": text,
        "limit": lambda value, name: whole_number(value, name, 1, sys.maxsize),
        "source": lambda value, name: os.fspath(path_from(value, name)),
        "document_root": lambda value, name: os.fspath(path_from(value, name)),
        **dict.fromkeys(("include_rejected", "thumbs", "overwrite", "prefix_names"), flag),
    }
    if wrong := sorted(given.keys() - reads.keys()):
        raise InputError(f"export has no option {wrong[0]!r}; it has {', '.join(sorted(reads))}.")
    plain = Options()
    unset = {name for name, value in given.items() if value is None and getattr(plain, name) is None}
    return Options(**{name: reads[name](value, name) for name, value in given.items() if name not in unset})
