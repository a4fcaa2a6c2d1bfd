"""The stores of unlabelled items: arrays of images, images decoded when asked for, embeddings (`types.Items`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coterie.common.isolation import Threads
from coterie.data.array_rows import gather
from coterie.data.pixel_values import ValueRule
from coterie.types import InputError, Items, ItemSpec

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Convert = Callable[[NDArray[Any]], NDArray[np.uint8]]


class ArrayImages:
    """Images in an array or memory map, uint8 (n, c, h, w); or in any form that `convert` turns into that, by row."""

    def __init__(self, array: NDArray[Any], spec: ItemSpec, convert: Convert | None = None) -> None:
        self.array, self.spec, self._convert = array, spec, convert

    def __len__(self) -> int:
        return len(self.array)

    def take(self, index: Tensor) -> Tensor:
        import torch

        if len(index) == 0:
            return torch.empty((0, self.spec.channels, self.spec.height, self.spec.width), dtype=torch.uint8)
        rows = gather(self.array, index.numpy())
        return torch.from_numpy(np.ascontiguousarray(rows if self._convert is None else self._convert(rows)))


class DecodedImages:
    """Images decoded from their files whenever they are taken, by a pool of threads: the store for what fits nowhere.

    Item i is picture `rows[i]` of `load` and `names`; `rule` maps values of more than 8 bits.
    `take` raises InputError for a file that could be read when the source was opened and no longer can.
    """

    def __init__(
        self,
        load: Callable[[int], Image],
        rows: NDArray[np.int64],
        names: Sequence[str],
        spec: ItemSpec,
        workers: int,
        rule: ValueRule,
    ) -> None:
        self._load, self._rows, self._names, self.spec, self._workers = load, rows, names, spec, workers
        self._rule = rule

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, index: Tensor) -> Tensor:
        import torch

        from coterie.data.decode import decode, quiet_pillow

        def one(row: int) -> NDArray[np.uint8]:
            result = decode(self._load, row, self.spec, self._rule)
            if isinstance(result, str):
                raise InputError(
                    f"{self._names[row]} could be read when the run began but not any more ({result}); "
                    "put it back, or start again without it."
                )
            return result

        images = np.empty((len(index), self.spec.channels, self.spec.height, self.spec.width), np.uint8)
        # Sorted, so that images which lie together in a table are read together. The pool lives for one call: a
        # lasting one would not survive a fork.
        rows = self._rows[index.numpy()]
        order = np.argsort(rows, kind="stable")
        with quiet_pillow(), Threads(self._workers) as pool:
            for place, image in zip(order, pool.map(one, rows[order].tolist()), strict=True):
                images[place] = image
        return torch.from_numpy(images)


class JoinedItems:
    """Two stores of items of the same form, one after the other."""

    def __init__(self, first: Items, second: Items) -> None:
        if first.spec != second.spec:
            raise InputError(f"Items of the form {first.spec} cannot be trained on together with {second.spec}.")
        self._first, self._second, self.spec = first, second, first.spec

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def take(self, index: Tensor) -> Tensor:
        import torch

        here = index < len(self._first)
        parts = torch.cat([self._first.take(index[here]), self._second.take(index[~here] - len(self._first))])
        # The parts stand one after the other; `argsort` says where each row of `index` is among them.
        return parts[torch.cat([here.nonzero(), (~here).nonzero()]).squeeze(1).argsort()]


class ChosenItems:
    """Some rows of a store, by their numbers."""

    def __init__(self, items: Items, rows: NDArray[np.int64]) -> None:
        import torch

        self._items, self._rows, self.spec = items, torch.from_numpy(rows), items.spec

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, index: Tensor) -> Tensor:
        return self._items.take(self._rows[index])


class Embeddings:
    """Embeddings (n, d) in an array or memory map of any real dtype, taken as float32.

    `offset` (d,) is subtracted before that: small differences of large numbers do not survive in 24 bits. `columns`,
    `chosen`: see `ItemSpec`.
    """

    def __init__(
        self,
        array: NDArray[Any],
        offset: tuple[float, ...] = (),
        columns: tuple[str, ...] = (),
        chosen: bool = False,
    ) -> None:
        self.array = array
        self.spec = ItemSpec("embeddings", dim=array.shape[1], offset=offset, columns=columns, chosen=chosen)
        self._offset = np.array(offset)

    def __len__(self) -> int:
        return len(self.array)

    def convert(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Rows of the array as float32 (b, d)."""
        if not len(self._offset):
            with np.errstate(over="ignore"):
                return np.ascontiguousarray(rows, dtype=np.float32)
        if rows.dtype.kind in "iu":  # whole numbers may be longer than the 53 bits of a float64
            wide = np.longdouble if rows.dtype == np.uint64 else np.int64
            return (rows.astype(wide) - self._offset.astype(wide)).astype(np.float32)
        return (rows.astype(np.result_type(rows.dtype, np.float64)) - self._offset).astype(np.float32)

    def take(self, index: Tensor) -> Tensor:
        import torch

        return torch.from_numpy(self.convert(gather(self.array, index.numpy())))
