"""The source of a run, opened and embedded; and the answers of the run that it fine-tunes, for its pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from coterie.data.flat import mark_flat
from coterie.data.named_files import names
from coterie.data.outliers import mark_outliers
from coterie.data.spaces import Spaces
from coterie.encoders import open_items
from coterie.encoders.opening import Encode
from coterie.encoders.store import lend_to
from coterie.prediction.model import Model
from coterie.running.beginning import size_beside
from coterie.running.deciding import check_used, place_of, with_encoder
from coterie.running.finetuning import Teacher, encoding_to_train, teacher_of
from coterie.running.prepared import Watch
from coterie.training.device import Place
from coterie.training.plan import RunSettings, image_size_of
from coterie.types import InputError, Source


def set_of(source: Any) -> str:
    """The named data set that this source is; empty for any other, and for a file or folder that is called like one."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    return text if text in names() else ""


def paths_of(source: Any) -> list[str]:
    """The paths of the source; none for an array or a named data set."""
    parts = source.parts if isinstance(source, Spaces) else [source]
    paths = [os.fspath(part) for part in parts if isinstance(part, str | os.PathLike)]
    return [path for path in paths if path not in names()]


def opened_source(
    source: Any,
    settings: RunSettings,
    cache: Path | None,
    place: Place,
    init: Model | None,
    watch: Watch,
    taught_by: Model | None,
) -> tuple[RunSettings, Source, Encode | None]:
    """The opened source, embedded where there is an encoder, and that."""
    kept = cache if place.is_main_process else None  # each process embeds for itself, and one writes
    settings, encode = with_encoder(settings, source, kept, place.device, dry=watch.dry)
    size = image_size_of(settings, set_of(source))
    note = size_beside(init, settings, size)
    opened = open_items(
        source,
        like=init.spec if init else None,
        encode=encode,
        device=settings.device,
        image_size=size,
        cache=cache,
        max_skipped=settings.max_skipped,
        progress=watch.reading,
        family=settings.family,
        columns=settings.columns,
        shown=None if taught_by is None else encoding_to_train(taught_by, settings),
    )
    opened.notes.extend([] if note is None else [note])
    check_used(encode, opened)
    _refuse_copies(opened)
    mark_outliers(opened)
    mark_flat(opened)
    return settings, opened, encode


def teacher_for(
    source: Any, settings: RunSettings, opened: Source, init: Model, cache: Path | None, place: Place, watch: Watch
) -> Teacher:
    """The answers of the run to fine-tune for the pictures; their embeddings are kept in the cache."""
    assert settings.init is not None
    if cache is not None:
        lend_to(Path(settings.init), cache / "features")
    options = {"max_skipped": settings.max_skipped, "progress": watch.reading, "family": settings.family}
    return teacher_of(
        source,
        opened,
        init,
        device=str(place.device),
        folder=None if cache is None else cache / "features",
        path=place_of(source),
        options=options,
        dry=watch.dry,
        say=watch.say,
    )


def _refuse_copies(source: Source) -> None:
    """Raise InputError where every picture is the same; of others, the first two are usually all that is read."""
    items, at = source.items, 1
    if items.spec.kind != "images":
        return
    first = items.take(torch.tensor([0], device="cpu"))
    while at < len(items):
        rows = torch.arange(at, min(2 * at, at + 256, len(items)), device="cpu")
        if bool((items.take(rows) != first).any()):
            return
        at += len(rows)
    raise InputError(f"All {len(items)} pictures of {source.name} are the same, so there is nothing to cluster.")
