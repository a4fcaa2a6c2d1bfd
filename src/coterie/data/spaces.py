"""Several spaces of features of the same items (two encoders, say) -> one Source: their features one after the other.

Rows belong together by the items' ids, or by their numbers where no space has ids.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coterie.common.words import counted
from coterie.data.array_rows import RowIds
from coterie.types import InputError, Items, ItemSpec, Source

if TYPE_CHECKING:
    from torch import Tensor

OpenOne = Callable[[Any, ItemSpec | None], Source]


class Spaces:
    """Two sources of embeddings or more, of the same items: a list of them, or a dict from a name of each.

    Whatever `fit` takes for embeddings may be one: a folder of `coterie embed`, a file, an array, a DataFrame. New
    items come in the same spaces: by the same names, or, of a list, in the same order.

    >>> import numpy as np
    >>> from coterie import Spaces
    >>> spaces = Spaces({"colour": np.zeros((60, 3)), "shape": np.zeros((60, 8))})
    >>> spaces.names
    ['colour', 'shape']
    """

    def __init__(self, sources: Mapping[str, Any] | Iterable[Any]) -> None:
        if isinstance(sources, str | bytes) or not isinstance(sources, Iterable) or getattr(sources, "ndim", 1) == 0:
            raise InputError(f"Spaces are a list or a dict of sources of features, not {repr(sources)[:80]}.")
        named = isinstance(sources, Mapping)
        self.parts: list[Any] = list(sources.values() if isinstance(sources, Mapping) else sources)
        self.names: list[str] = [str(name) for name in sources] if named else [""] * len(self.parts)
        if named and len(set(self.names)) < len(self.names):  # 1 and "1" of a dict
            raise InputError(f"Each space has a name of its own: {', '.join(self.names)} were given.")
        if len(self.parts) < 2:
            raise InputError(f"Spaces are at least two sources of features, and {len(self.parts)} was given.")

    def called(self, place: int) -> str:
        """The name of a space in messages."""
        part = self.parts[place]
        path = os.fspath(part) if isinstance(part, str | os.PathLike) else ""
        return self.names[place] or str(path) or f"space {place + 1}"

    @property
    def paths(self) -> list[str]:
        """The paths of those spaces that are files or folders."""
        return [os.fspath(part) for part in self.parts if isinstance(part, str | os.PathLike)]

    def __str__(self) -> str:
        return " + ".join(self.called(place) for place in range(len(self.parts)))

    def ordered_as(self, like: ItemSpec) -> Spaces:
        """The same spaces in the order of the fitted model. Raises InputError where they are not its spaces."""
        names = [space.name for space in like.spaces]
        if not names:
            raise InputError("Several spaces of features were given, but the run was fitted on one: give that alone.")
        wanted = f"the run was fitted on {len(names)}" + (f" called {', '.join(names)}" if any(names) else "")
        if sorted(self.names) != sorted(names):
            given = ", ".join(self.names) if any(self.names) else f"{len(self.parts)} without names"
            raise InputError(f"These are not the spaces of the run: {given} were given, and {wanted}.")
        return Spaces({name: self.parts[self.names.index(name)] for name in names}) if any(names) else self


class SideBySide:
    """Embeddings of the same items in several spaces, one after the other; `names` is what messages call these."""

    def __init__(self, spaces: Sequence[Items], specs: Sequence[ItemSpec], names: Sequence[str]) -> None:
        self.spaces, self.names = list(spaces), list(names)
        self.spec = ItemSpec("embeddings", dim=sum(spec.dim for spec in specs), spaces=tuple(specs))

    def __len__(self) -> int:
        return len(self.spaces[0])

    def take(self, index: Tensor) -> Tensor:
        import torch

        return torch.cat([space.take(index) for space in self.spaces], dim=1)


def open_spaces(given: Spaces, like: ItemSpec | None, open_one: OpenOne) -> Source:
    """One source of all spaces. Raises InputError for pictures, and for rows that do not belong together."""
    spaces = given if like is None else given.ordered_as(like)
    models = [None] * len(spaces.parts) if like is None else [replace(space, name="") for space in like.spaces]
    opened = [open_one(part, model) for part, model in zip(spaces.parts, models, strict=True)]
    for place, source in enumerate(opened):
        if source.items.spec.kind != "embeddings":
            raise InputError(
                f"{spaces.called(place)} holds pictures, and a space is made of embeddings: coterie embed makes some."
            )
        if place:
            check_rows(spaces, place, opened[0].ids, source.ids)
    specs = [replace(source.items.spec, name=name) for source, name in zip(opened, spaces.names, strict=True)]
    first = opened[0]
    digest = hashlib.sha256("\n".join(source.fingerprint for source in opened).encode()).hexdigest()
    joined = replace(first, name="+".join(source.name for source in opened), origin=str(spaces), fingerprint=digest)
    called = [spaces.called(place) for place in range(len(opened))]
    joined.items = SideBySide([source.items for source in opened], specs, called)
    by = "row number" if isinstance(first.ids, RowIds) else "the items' ids"
    sizes = ", ".join(f"{name} ({spec.dim})" for name, spec in zip(called, specs, strict=True))
    joined.notes = [f"{len(opened)} spaces of features, matched by {by}: {sizes}."]
    joined.notes += [note for source in opened for note in source.notes]
    joined.warnings = list(dict.fromkeys(text for source in opened for text in source.warnings))
    joined.skipped = list({item.id: item for source in opened for item in source.skipped}.values())
    joined.pictures = next((source.pictures for source in opened if source.pictures is not None), None)
    return joined


def check_rows(spaces: Spaces, place: int, first: Sequence[str], ids: Sequence[str]) -> None:
    """Raise InputError unless two spaces hold the same items in the same order."""
    one, other = spaces.called(0), spaces.called(place)
    numbered = [isinstance(each, RowIds) for each in (first, ids)]
    if len(set(numbered)) > 1:
        named, unnamed = (other, one) if numbered[0] else (one, other)
        raise InputError(
            f"{named} names its items and {unnamed} only numbers its rows, so they cannot be matched: give both with "
            "ids (a folder of coterie embed, or a .parquet with a column id), or both without."
        )
    if all(numbered):
        if len(first) != len(ids):
            raise InputError(f"{one} has {len(first):,} rows and {other} {len(ids):,}, but the items must be the same.")
        return
    if list(first) == list(ids):
        return
    missing, extra = sorted(set(first) - set(ids)), sorted(set(ids) - set(first))
    if missing or extra:
        which, where, count = (missing, other, len(missing)) if missing else (extra, one, len(extra))
        raise InputError(
            f"{where} lacks {counted(count, 'item')} of the other space ({', '.join(which[:3])}"
            f"{', ...' if count > 3 else ''}): embed the same items for both."
        )
    row = next(row for row, (a, b) in enumerate(zip(first, ids, strict=True)) if a != b)
    raise InputError(
        f"{one} and {other} hold the same items in another order (row {row}: {first[row]}, {ids[row]}): bring them "
        "into one order."
    )


def source_given(source: str | None, features: Sequence[str]) -> str | Spaces:
    """The source of a command: SOURCE or --features. Raises InputError for both, and for neither."""
    if (source is None) == (not features):
        both = "SOURCE and --features both say" if features else "Nothing says"
        raise InputError(f"{both} what is grouped: give SOURCE, or --features once for each space.")
    if source is not None:
        return source
    return features[0] if len(features) == 1 else Spaces(features)
