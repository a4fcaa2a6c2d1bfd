"""True labels that a user names, for measuring a finished run alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from coterie.data import Labels, labels_from_folders, labels_of, read_label_file
from coterie.types import InputError, Skipped


def find_labels(
    source: str, wanted: str | None, column: str | None, ids: Sequence[str], skipped: Sequence[Skipped]
) -> Labels | None:
    """True labels: of a file, of the folders' names, or those that come with the source; `column` of a table."""
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
