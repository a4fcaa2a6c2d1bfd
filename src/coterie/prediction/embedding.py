"""Computes the embedding of a run's own items again from its model. A review needs it, most runs do not store it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coterie.common.outputs import write_atomically
from coterie.common.words import counted
from coterie.data.named_files import names
from coterie.data.originals import place_of
from coterie.encoders import open_items
from coterie.prediction.model import load_model
from coterie.records import read_record
from coterie.types import InputError

MOST = 6e4  # of a value in half precision
LEAST = 0.01  # rounding that half precision may add, as a share of the features' deviation
SAMPLE = 10_000  # rows that it is measured on


def embed_run(
    run: Path,
    ids: Sequence[str],
    out: Path,
    source: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the features (n, d) of the run's items to `out`, as float16 where that is exact enough, in the order of its
    result.

    `source`: where the data are now, if not where the record says. Raises InputError where they are not those that the
    run was fitted on, with what differs.
    """
    entry = read_record(run).get("source") or {}
    origin = str(entry.get("origin") or "")
    if source is not None or origin not in names():
        origin = str(place_of(entry, origin, source))
    model = load_model(run)
    opened = open_items(origin, like=model.spec, lender=run)
    if list(opened.ids) != list(ids) or opened.fingerprint != entry.get("fingerprint"):
        raise InputError(_differences(origin, opened.ids, ids))
    embedding = model.predict(opened, embedding=True, progress=progress).embedding
    assert embedding is not None
    sink = io.BytesIO()
    values = embedding.numpy()
    np.save(sink, values.astype(np.float16) if _halves(values) else values)
    write_atomically(out, sink.getvalue())


def _halves(values: NDArray[np.float32]) -> bool:
    """Whether half precision holds neighbours and means well enough: not of large, tiny, or far off-centre features."""
    if np.abs(values).max(initial=0) >= MOST:
        return False
    some = values[:: 1 + len(values) // SAMPLE].astype(np.float64)
    rounding = np.square(some - some.astype(np.float16)).mean()
    return bool(rounding <= LEAST**2 * some.var(axis=0).mean())


def _differences(origin: str, now: Sequence[str], then: Sequence[str]) -> str:
    fresh, gone = sorted(set(now) - set(then)), sorted(set(then) - set(now))
    parts = [
        f"{counted(len(items), 'item is', 'items are')} {what} ({', '.join(items[:5])}{', …' * (len(items) > 5)})"
        for what, items in (("new", fresh), ("missing", gone))
        if items
    ]
    said = " and ".join(parts) or "the items have the same names, but other content"
    return f"{origin} is not what the run was fitted on: {said}. Give the data of the run with --source."
