"""True labels that a user names, for measuring a finished run alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coterie.data import Labels, labels_from_folders, labels_of, open_source, read_label_file
from coterie.data.changed import touched
from coterie.data.named_files import names
from coterie.data.originals import uncounted
from coterie.data.pictures import recognised
from coterie.types import InputError, Skipped


def find_labels(
    source: str, wanted: str | None, column: str | None, ids: Sequence[str], skipped: Sequence[Skipped]
) -> Labels | None:
    """True labels: of a file, of the folders' names, or those that come with the source; `column` of a table.

    Raises InputError for a column beside the folders' names, and for labels that cannot be read.
    """
    if wanted == "folders":
        if column is not None:
            raise InputError("--label-column names a column of a file, but --labels folders reads none: leave one out.")
        return labels_from_folders(ids)
    if wanted is not None:
        own = labels_of(source, ids, column) if _rows_of_source(wanted, source, ids) else None
        if own is not None:
            return own
        return read_label_file(Path(wanted), ids, [item.id for item in skipped], column)
    return labels_of(source, ids, column)


def _rows_of_source(wanted: str, source: str, ids: Sequence[str]) -> bool:
    """Whether a label file is the source itself, whose items are called by their rows: no other order fits them."""
    paths = [os.path.expanduser(name) for name in (wanted, source)]
    same = all(map(os.path.isfile, paths)) and os.path.samefile(*paths)
    return same and all(item == str(row) for row, item in enumerate(ids))


def of_this_run(
    labels: Labels, origin: str, ids: Sequence[str], run: Path, record: Mapping[str, Any], *, surely: bool = False
) -> Labels:
    """Labels out of a run's own source, which says so in their note where it has changed since the run was fitted.

    Raises InputError where they go by its rows, which then mean other items. The source is read again where its files
    have another time than at the fit, or `surely`.
    """
    path, source = Path(os.path.expanduser(origin)), record.get("source") or {}
    files = [path, *path.glob("*.parquet")] if path.is_dir() else [path]
    if origin in names() or not (surely or touched(files, source)):
        return labels
    try:
        _check_unchanged(run, record, origin, ids)
    except InputError:
        if labels.by_row:
            raise
        note = f"{labels.note}. {origin} has changed since the run was fitted: its ids may be those of other items"
        return replace(labels, note=note)
    return labels


def _check_unchanged(run: Path, record: Mapping[str, Any], origin: str, ids: Sequence[str]) -> None:
    """Raise InputError where a source with labels is not what the run was fitted on.

    Pictures in a table, and those that were embedded, are known by their content: none is decoded for it.
    """
    from coterie.prediction.model import load_model
    from coterie.twins import check_unchanged

    model, source = load_model(run), record.get("source") or {}
    embedded = model.spec.encoding is not None
    encode = recognised(uncounted(source)) if embedded or not origin.lower().endswith(".npz") else None
    columns = (record.get("settings") or {}).get("columns")
    opened = open_source(origin, like=model.spec, encode=encode, columns=columns)
    check_unchanged(opened, origin, source.get("fingerprint"), run)
    # The fingerprint of pictures is over their ids, too.
    if model.spec.kind == "embeddings" and not embedded and list(opened.ids) != list(ids):
        raise InputError(f"{origin} has other ids than when {run} was fitted.")
