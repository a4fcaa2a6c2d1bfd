"""Digests that change when the data change, so that a run can say what it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.data.array_rows import BLOCK, blocks, gather

HUGE = 2 << 30  # bytes of a memory map beyond which only a sample of the rows is hashed
SAMPLE = 10_000


def array_fingerprint(array: NDArray[Any]) -> str:
    """Return the SHA-256 of shape, dtype and bytes (in C order, whatever the memory layout).

    A memory map of more than 2 GiB is not read in full: 10,000 rows, evenly spread from the first to the last, stand
    for it, so a change in another row is not seen.
    """
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str}".encode())
    if isinstance(array, np.memmap) and array.nbytes > HUGE and len(array) > SAMPLE:
        chosen = np.linspace(0, len(array) - 1, SAMPLE).astype(np.int64)
        step = max(1, BLOCK // max(1, array.nbytes // len(array)))
        for start in range(0, SAMPLE, step):
            digest.update(np.ascontiguousarray(gather(array, chosen[start : start + step])).data)
    else:
        for _, rows in blocks(array):
            digest.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def list_fingerprint(ids: Iterable[str], digests: Iterable[bytes]) -> str:
    """Return the SHA-256 over pairs of id and content digest, in order."""
    whole = hashlib.sha256()
    for name, digest in zip(ids, digests, strict=True):
        whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest)
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
