"""One card or table row per group: how large, how sure, and what its surest and most doubtful items look like."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from coterie.records import Record
from coterie.report.charts import sparkbars
from coterie.report.gallery import DOUBTFUL, LARGE, SMALL, SUREST, gallery_rows, thumbnail
from coterie.report.read import ReadRun, Result
from coterie.report.scatter import COLOURS
from coterie.report.wording import short_percent, shorten

CARDS = 30  # more groups than this come as the rows of a table


@dataclass(frozen=True)
class Item:
    """One item shown: its picture as a data URI, or "" where only its id can be shown."""

    id: str
    short_id: str
    confidence: float
    picture: str
    alternative: str = ""  # "or 4 (31%)": the second likeliest group


@dataclass
class GroupSection:
    """A group's card. `confidence`, `class_name` and `accuracy` are None where they are not known."""

    number: int
    colour: int
    size: int
    share: float
    relative_size: float  # to the largest group
    confidence: float | None
    histogram: Markup | None
    class_name: str | None = None
    accuracy: float | None = None
    surest: list[Item] = field(default_factory=list)
    doubtful: list[Item] = field(default_factory=list)


def build_groups(folder: ReadRun) -> list[GroupSection]:
    """All groups in the order of their numbers, the empty ones too."""
    result = folder.result
    if result is None:
        return []
    k = max(folder.n_clusters, int(result.labels.max()) + 1)
    sizes = np.bincount(result.labels, minlength=k)
    sums = np.bincount(result.labels, weights=result.confidence, minlength=k)
    known: dict[int, Record] = {row["cluster"]: row for row in (folder.metrics or {}).get("per_cluster") or []}
    cards = k <= CARDS
    members = _members(result.labels, k) if cards else []
    groups = [
        GroupSection(
            number=number,
            colour=number % COLOURS,
            size=int(sizes[number]),
            share=float(sizes[number] / sizes.sum()),
            relative_size=float(sizes[number] / sizes.max()),
            confidence=float(sums[number] / sizes[number]) if sizes[number] else None,
            histogram=sparkbars(result.confidence[members[number]]) if cards and sizes[number] else None,
            class_name=known.get(number, {}).get("class"),
            accuracy=known.get(number, {}).get("acc"),
        )
        for number in range(k)
    ]
    _show_items(folder, result, groups, 12 if cards else 5 if folder.gallery else 3)
    return groups


def _members(labels: NDArray[np.int64], k: int) -> list[NDArray[np.int64]]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(1, k)))


def _show_items(folder: ReadRun, result: Result, groups: list[GroupSection], per_strip: int) -> None:
    """Fill the strips of all groups from the stored gallery, or with ids where no pictures were stored."""
    stored = folder.gallery
    rows, cluster, kind = (
        (stored.rows, stored.cluster, stored.kind)
        if stored
        else gallery_rows(result.labels, result.confidence, per_strip)
    )
    ids = stored.ids if stored else result.ids(rows)
    second = result.runners_up(rows[kind == DOUBTFUL])
    for place, (row, number, which) in enumerate(zip(rows.tolist(), cluster.tolist(), kind.tolist(), strict=True)):
        strip = groups[number].surest if which == SUREST else groups[number].doubtful
        if len(strip) < per_strip:
            strip.append(
                Item(
                    id=ids[place],
                    short_id=shorten(ids[place], 14),
                    confidence=float(result.confidence[row]),
                    picture=thumbnail(stored.images[place], LARGE if len(groups) <= CARDS else SMALL) if stored else "",
                    alternative=f"or {second[row][0]} ({short_percent(second[row][1])})" if row in second else "",
                )
            )
