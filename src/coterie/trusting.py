"""Which of several finished runs to trust: their labels, and the samples of features that their models keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from coterie.choosing import reduced
from coterie.evaluation.contingency import Ints
from coterie.evaluation.trust import Space, Trust, trust
from coterie.networks.unit import unit_rows
from coterie.prediction.model import Model, load_model
from coterie.report.read import read_finished
from coterie.types import InputError
from coterie.views.normalise import SMALL_DIM

ITEMS = 3000  # of each space


def trust_runs(paths: Sequence[Path], names: Sequence[str]) -> Trust | None:
    """The trust in finished runs over the same data with the same number of groups; None where there are not two.

    Of runs with several data or numbers of groups the largest such set is ranked.
    """
    found = [(name, *read_finished(path)) for path, name in zip(paths, names, strict=True)]
    kinds = [(folder.run.get("source", {}).get("fingerprint"), folder.n_clusters) for _, folder, _ in found]
    kind, count = Counter(kinds).most_common(1)[0]
    if count < 2 or kind[0] is None:
        return None
    members = [one for one, own in zip(found, kinds, strict=True) if own == kind]
    models: list[Model | None] = []
    unread = []
    for name, folder, _ in members:
        try:
            models.append(load_model(folder.path))
        except InputError as error:
            models.append(None)
            unread.append(f"{name} lends no features to rank the others by: {error}")
    names, partitions = [name for name, _, _ in members], [result.labels for _, _, result in members]
    ranked = trust_models(names, partitions, models, kind[1])
    return replace(ranked, sentences=[*ranked.sentences, *unread])


def trust_models(names: Sequence[str], partitions: Sequence[Ints], models: Sequence[Model | None], k: int) -> Trust:
    """The trust in at least two runs over the same items, each with its labels (n,) of k groups and its model."""
    spaces = [
        _space(model, len(labels), place)
        for place, (model, labels) in enumerate(zip(models, partitions, strict=True))
        if model is not None
    ]
    kept = [space for space in spaces if space is not None]
    if common := [space for space in kept if space.home is None]:
        kept = [common[0], *(space for space in kept if space.home is not None)]
    return trust(names, partitions, k, kept)


def _space(model: Model, n: int, place: int) -> Space | None:
    """The features that a model keeps, if it is known of which items; nobody's where nothing was trained."""
    bank = model.bank
    if bank is None:
        return None
    if bank.rows is not None:
        rows = bank.rows.numpy()
    elif len(bank.features) == n:
        rows = np.arange(n)
    else:
        return None  # of an older version, which does not say it
    some = np.sort(np.random.default_rng(0).permutation(len(rows))[:ITEMS])
    points = bank.features[some]
    if model.net.width >= SMALL_DIM:
        points = unit_rows(points)
    home = None if model.backbone == "identity" else place
    return Space(reduced(points, 0), rows[some], home)
