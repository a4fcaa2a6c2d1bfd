"""`choose_k`: how many groups, before any is made. On embeddings, on the features of a finished run, or on pixels.

At most 10,000 items are used, reduced to at most 50 principal components; the criteria and the rule are in
`evaluation/number_of_groups.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from coterie.algorithms.finch import hierarchy
from coterie.common.arguments import as_whole
from coterie.common.callers import worded
from coterie.common.isolation import isolated
from coterie.data import open_source
from coterie.data.flat import mark_flat
from coterie.data.outliers import mark_outliers, usual_rows
from coterie.data.reading import said_of
from coterie.evaluation.group_rule import Choice
from coterie.evaluation.number_of_groups import most_groups, number_of_groups
from coterie.networks.unit import unit_rows
from coterie.prediction.model import load_model
from coterie.records import groups_of, read_record
from coterie.types import InputError, Source
from coterie.views.normalise import SMALL_DIM, normalisation, normalise

SAMPLE = 10_000  # items
COMPONENTS = 50
SIDE = 32  # pixels to which larger pictures are shrunk
PIXELS = (
    "The number of groups was estimated from pixels, which show colours and shapes rather than objects: embeddings of "
    "an encoder are better for this."
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Looked:
    """The points (m, d) on which the number is chosen, out of `n` items; what they are, and notes for the user."""

    points: Tensor
    n: int
    what: str
    notes: tuple[str, ...] = ()


@isolated
def choose_k(
    source: Any,
    *,
    least: int = 2,
    most: int | None = None,
    random_state: int = 0,
    columns: str | Sequence[str] | None = None,
    progress: Say = lambda text: None,
) -> Choice:
    """Estimate the number of groups, without labels.

    The answer has `.k`, its `.plateau` (least, most), `.clear` (whether a number stands out), `.curve` with every
    criterion, and `.sentence`, which says it in words (docs/choosing_k.md). `.notes` say which columns were taken and
    what was left out.

    source: whatever `Clusterer.fit` takes, or a finished run's folder, whose features are then used. least, most: the
    range of numbers, by default 2 to the square root of the number of items, at most 200. random_state: a whole number;
    the same one gives the same answer. columns: the features of a table. progress: called with a text now and then.

    Raises InputError (a ValueError) for input that cannot work.

    >>> import numpy as np
    >>> from coterie import choose_k
    >>> group = np.arange(60) % 3
    >>> points = 9 * np.eye(3)[group] + np.random.default_rng(0).normal(size=(60, 3))
    >>> choice = choose_k(points, most=4)
    >>> choice.k, choice.clear, choice.plateau
    (3, True, (3, 3))
    """
    seed = as_whole(random_state, "random_state")
    if not 0 <= seed < 2**63:
        raise InputError(f"random_state is {seed}: it takes a whole number from 0 to 2**63 - 1.")
    least, most = as_whole(least, "least"), None if most is None else as_whole(most, "most")
    if least < 2 or (most is not None and most < least):
        asked = f"{least} groups on" if most is None else f"{least} to {most} groups"
        raise InputError(f"The range is {asked}: give two numbers from 2 on, the smaller one first (least, most).")
    if not callable(progress):
        raise InputError(f"progress is {repr(progress)[:80]}: it takes a function of a text.")
    if isinstance(source, str | os.PathLike) and os.path.lexists(Path(source) / "run.yaml"):
        if columns is not None:
            raise InputError("columns choose the features of a table, and a run has its own: leave them out.")
        looked = features_of_run(Path(source))
    else:
        opened = open_source(source, columns=columns, family="photo")  # of no matter here, so there is no note on it
        mark_outliers(opened)
        mark_flat(opened)
        looked = features_of_source(opened, seed)
        said = (*opened.warnings, *said_of(opened.skipped), *opened.notes)
        looked = replace(looked, notes=(*map(worded, said), *looked.notes))
    return choose(looked, least=least, most=most, seed=seed, progress=progress)


def choose(
    looked: Looked, *, least: int = 2, most: int | None = None, seed: int = 0, progress: Say = lambda text: None
) -> Choice:
    """The choice for these points; the levels of their FINCH hierarchy are among the candidates.

    Raises InputError for fewer different items than `least`.
    """
    points = reduced(looked.points, seed)
    levels = [int(level.max()) + 1 for level in hierarchy(torch.from_numpy(points), "euclidean")]
    top = min(most_groups(looked.n), len(points) // 4) if most is None else most
    notes = list(looked.notes)
    # As many groups as different items hold as surely as the true ones: those above them are empty.
    different = len({(row + 0).tobytes() for row in looked.points.cpu().numpy()})  # + 0: -0.0 is 0.0
    if 1 < different < least:
        raise InputError(f"Only {different} of the items are different, so there are no {least} groups to look for.")
    if 1 < different < top:
        top = different
        notes.append(f"Only {different} of the items are different, so no more groups than that were looked at.")
    found = number_of_groups(points, least=least, most=top, levels=levels, seed=seed, progress=progress)
    return replace(found, notes=[*found.notes, *notes])


def features_of_source(source: Source, seed: int) -> Looked:
    """A sample of the items, without those far outside: embeddings as they are, pictures as pixels.

    Embeddings of 64 features and more are compared by their angles, shorter ones are unlike measurements: see
    `views.normalise`.
    """
    items = source.items
    rows = usual_rows(source)
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
    if items.spec.kind == "embeddings":
        points = items.take(torch.from_numpy(rows)).float()
        if items.spec.dim < SMALL_DIM:
            points = normalise(points, *normalisation(items))
        else:
            points = unit_rows(points)
        return Looked(points, len(items), "embeddings")
    parts = torch.from_numpy(rows).split(256)
    return Looked(torch.cat([_pixels(items.take(part)) for part in parts]), len(items), "pixels", (PIXELS,))


def _pixels(images: Tensor) -> Tensor:
    """(b, c, h, w) of bytes as rows of numbers, larger pictures shrunk."""
    values = images.float() / 255
    if max(values.shape[2:]) > SIDE:
        values = F.interpolate(values, size=(SIDE, SIDE), mode="area")
    return values.flatten(1)


def features_of_run(folder: Path) -> Looked:
    """The sample of its items' features that a finished run keeps. Raises InputError for one that keeps none."""
    record, model = read_record(folder), load_model(folder)
    if model.bank is None:
        raise InputError(f"{folder} keeps no features of its items: fit it again, or give the source itself.")
    points, notes = model.bank.features, list[str]()
    if model.net.width >= SMALL_DIM:
        points = unit_rows(points)
    trained = any(int(stage.get("epochs") or 0) > 0 for stage in record.get("stages") or [])
    if trained and (k := groups_of(record)) is not None:
        notes.append(f"These features were trained with {k} groups, which favours {k}.")
    n = (record.get("source") or {}).get("n") or len(points)
    return Looked(points, n, f"features of {folder}", tuple(notes))


def settle(source: Source, seed: int, say: Say) -> tuple[int, dict[str, Any]]:
    """The number of groups for `-k auto`, and the entry of the record that says how it came about.

    Where no number stands out a warning of the source says so: the run goes on with the median of the criteria.
    """
    say("looking for the number of groups")
    found = choose(features_of_source(source, seed), seed=seed)
    if not found.clear:
        source.warnings.append(
            f"{found.sentence} Taken is {found.k}, {_how_taken(found)}, not a finding: give the number that you want "
            "with -k."
        )
    source.notes.extend([f"Number of groups: {found.sentence}", *found.notes] if found.clear else found.notes)
    return found.k, found.as_json()


def _how_taken(found: Choice) -> str:
    """How the number came about that `-k auto` goes on with where none stands out."""
    if found.k == sorted(found.ticks.values())[len(found.ticks) // 2]:
        return "the median of these"
    low, high = found.plateau
    return f"the number from {low} to {high} that is nearest to the median of these"


def reduced(points: Tensor, seed: int) -> NDArray[np.float32]:
    """The points in their first 50 principal components, or in all where there are fewer."""
    values = points.numpy()
    components = min(COMPONENTS, *values.shape)
    found: NDArray[np.float32] = PCA(components, random_state=seed % 2**32).fit_transform(values).astype(np.float32)
    return found
