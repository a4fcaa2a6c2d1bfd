"""Checkpoints: a tree of tensors and plain values in one safetensors file, written whole or not at all.

No pickle: tensors stand under their path in the tree, everything else is JSON in the file's header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coterie.common.outputs import write_atomically
from coterie.common.words import kind_in_a_line
from coterie.records.files import check_regular, utf8_path
from coterie.types import InputError


def save_tree(path: Path, tree: Any) -> None:
    """Write atomically: to a file beside it, flushed to the disk, then renamed over the old one.

    Raises InputError when the disk is full or the folder may not be written.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    skeleton = _pack(tree, "", tensors)
    write_atomically(path, save(tensors, metadata={"tree": json.dumps(skeleton)}))


def load_tree(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read what `save_tree` wrote. Raises InputError for a file of any other kind."""
    from safetensors import safe_open

    check_regular(path)
    with (
        restoring(path),
        utf8_path(path) as opened,
        safe_open(opened, framework="pt", device=str(device)) as file,
    ):
        skeleton = json.loads((file.metadata() or {})["tree"])
        return _unpack(skeleton, {name: file.get_tensor(name) for name in list(file.keys())})


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turn errors while a checkpoint is read and restored into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of safetensors, of torch, of a tree that lacks an entry or has another in its place
        reason = kind_in_a_line(error)
        raise InputError(f"{path} is not a checkpoint of this run ({reason}): delete it and run again.") from error


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        while place in tensors:  # the keys 1 and "1" of a dict
            place += "'"
        tensors[place] = value.detach().contiguous().clone()
        return {"@tensor": place}
    if isinstance(value, dict):
        # Pairs, because JSON would turn the integer keys of an optimiser's state into strings.
        return {"@dict": [[key, _pack(inner, f"{place}/{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {"@list": [_pack(inner, f"{place}/{i}", tensors) for i, inner in enumerate(value)]}
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "@tensor" in value:
            return tensors[value["@tensor"]]
        if "@dict" in value:
            return {key: _unpack(inner, tensors) for key, inner in value["@dict"]}
        return [_unpack(inner, tensors) for inner in value["@list"]]
    return value
