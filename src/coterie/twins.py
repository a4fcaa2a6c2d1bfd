"""`find_duplicates`: near-duplicates among the items of a source, by content and by features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.algorithms.neighbours import nearest
from coterie.common.isolation import in_own_state
from coterie.data import open_source
from coterie.data.outliers import mark_outliers, usual_items
from coterie.encoders import open_items
from coterie.evaluation.near_duplicates import Duplicates, near_duplicates
from coterie.networks.features import extract_features
from coterie.networks.unit import unit_rows
from coterie.prediction.model import Model
from coterie.types import InputError, Source
from coterie.views.normalise import SMALL_DIM, normalisation, normalise

NEIGHBOURS = 5
SIDE = 16  # pixels of a picture without features


@in_own_state
def find_duplicates(source: Any) -> Duplicates:
    """Sets of near-duplicates of whatever `Clusterer.fit` takes; pictures are compared as 16 × 16 pixels."""
    return duplicates_of(open_source(source))


def duplicates_of(source: Source, model: Model | None = None) -> Duplicates:
    """The sets of an open source, by the features of a model if given. InputError for fewer than four items."""
    n = len(source.items)
    if n < 4:
        raise InputError(f"{source.name} has {n} items: near-duplicates are looked for among at least 4.")
    points, content = [], []
    for part in torch.arange(n).split(512):
        raw = source.items.take(part)
        content += [hashlib.sha256(row.tobytes()).hexdigest()[:32] for row in raw.numpy() + 0]  # + 0: -0.0 is 0.0
        if model is None:
            points.append(raw.float() if raw.ndim == 2 else _small(raw))
    rows = torch.cat(points) if model is None else extract_features(model.net, source.items)
    if rows.shape[1] >= SMALL_DIM:
        rows = unit_rows(rows)
    elif model is None:
        mark_outliers(source)  # one row far outside would set the scale, and all others would lie close together
        rows = normalise(rows, *normalisation(usual_items(source)))
    distances, neighbours = nearest(rows, min(NEIGHBOURS, n - 1))
    if rows.shape[1] >= SMALL_DIM and model is None:
        # Without a direction nothing is known of how like they are: a black picture would be near a white one.
        distances[~rows.any(dim=1)] = torch.inf
    return near_duplicates(distances.double().numpy(), neighbours.numpy(), np.array(content))


def _small(images: Tensor) -> Tensor:
    """(b, c, h, w) of bytes as rows: 16 × 16 pixels, each picture with mean 0; zeros for one of a single colour."""
    values = F.interpolate(images.float(), size=(SIDE, SIDE), mode="area").flatten(2)
    plain = (values.amax(2) - values.amin(2)).amax(1) < 1
    rows = values.flatten(1)
    return (rows - rows.mean(1, keepdim=True)).masked_fill(plain[:, None], 0)


def source_of(origin: str, model: Model, fingerprint: str | None, run: Path) -> Source:
    """The source of a run, opened again. Raises InputError where it has changed since."""
    opened = open_items(origin, like=model.spec, lender=run)
    check_unchanged(opened, origin, fingerprint, run)
    return opened


def check_unchanged(opened: Source, origin: str, fingerprint: str | None, run: Path) -> None:
    """Raise InputError where a source is not what the run was fitted on."""
    if fingerprint is not None and opened.fingerprint != fingerprint:
        raise InputError(f"{origin} has changed since {run} was fitted: fit it again, or give the source itself.")
