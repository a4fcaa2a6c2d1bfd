"""What a format is given: items, options, and where the pictures are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coterie.data.originals import Originals
from coterie.export.items import NOWHERE, ONLY, Items
from coterie.types import InputError

LINKS = ("copy", "symlink", "hard")


@dataclass(frozen=True)
class Options:
    """What the user asked of an export.

    only: which items; None: those that the format is for (all but of labelstudio, which takes the undecided). link: how
    pictures get into folders. include_rejected: items of no group into `_unlabeled`. limit: so many items. source:
    where the pictures lie, if elsewhere. document_root: of Label Studio's server. thumbs: small pictures beside
    embeddings. prefix_names: `GROUP_image.jpg`, as CVAT reads them.
    """

    only: str | None = None
    link: str = "copy"
    original: bool = False
    include_rejected: bool = False
    limit: int | None = None
    source: str | None = None
    document_root: str | None = None
    thumbs: bool = False
    overwrite: bool = False
    prefix_names: bool = False

    def __post_init__(self) -> None:
        if self.only is not None and self.only not in ONLY:
            raise InputError(f"--only is {self.only!r}: it takes {', '.join(ONLY)}.")
        if self.link not in LINKS:
            raise InputError(f"--link is {self.link!r}: it takes {', '.join(LINKS)}.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is {self.limit}: give at least 1.")


@dataclass
class Job:
    """What a format writes: its items, and notes on what it did to them."""

    items: Items
    options: Options
    look_up: Callable[[], Originals]  # where the pictures of the run are
    version: str  # of the whole result, see `version_of`
    notes: list[str] = field(default_factory=list)
    left_out: int = 0

    @cached_property
    def originals(self) -> Originals:
        """Where the pictures are. Raises InputError where there are none."""
        return self.look_up()

    def with_pictures(self) -> Items:
        """The items whose picture is there; a note says how many are not. Raises InputError where none is."""
        items = self.items
        there = np.fromiter((self.originals.has(item) for item in items.ids), bool, len(items))
        if not there.any():
            raise InputError(
                f"The photos are not where they were ({self.originals.where}; {items.ids[0]} is not there): say where "
                "with --source."
            )
        self.say_left_out(~there, "whose pictures are not there any more")
        return items if there.all() else items.take(np.flatnonzero(there))

    def with_files(self, program: str) -> tuple[Items, list[str]]:
        """The items whose pictures are files, and their absolute paths in UTF-8, for a program that opens them itself.

        Raises InputError where the pictures lie in a table or an array.
        """
        if self.originals.path is None:
            raise InputError(
                f"{program} opens files, but the run's pictures lie in {self.originals.where}: export them as "
                "imagefolder, and fit that folder."
            )
        items = self.with_pictures()
        paths = [str(self.originals.path(item)) for item in items.ids]
        plain = np.array([_is_utf8(path) for path in paths])
        self.say_left_out(~plain, f"whose names are not UTF-8, which {program} does not open", items)
        rows = np.flatnonzero(plain)
        if len(rows) == 0:
            raise InputError(f"No picture of the run has a name in UTF-8, and {program} opens no other.")
        return (items if plain.all() else items.take(rows)), [paths[row] for row in rows.tolist()]

    def with_group(self, items: Items) -> Items:
        """The items that belong to a group. Raises InputError where none does."""
        grouped = items.label != NOWHERE
        if not grouped.any():
            raise InputError("There is nothing to export: no item belongs to a group.")
        self.say_left_out(~grouped, "that belong to no group", items)
        return items if grouped.all() else items.take(np.flatnonzero(grouped))

    def say_left_out(self, left_out: NDArray[np.bool_], why: str, items: Items | None = None) -> None:
        """Note how many items were left out, and which is the first."""
        count, ids = int(left_out.sum()), (items or self.items).ids
        self.left_out += count
        if count:
            self.notes.append(f"Left out ({count:,}): items {why}, the first is {ids[int(left_out.argmax())]}.")


def version_of(items: Items) -> str:
    """Four digits that identify a result, given all of its items: of a hash over ids, labels and confidences."""
    content = "\n".join(items.ids).encode("utf-8", "surrogatepass")
    content += items.model_label.tobytes() + items.model_confidence.tobytes()
    return hashlib.sha256(content).hexdigest()[:4]


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
