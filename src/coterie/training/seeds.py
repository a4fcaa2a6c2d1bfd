"""Seeds as a function of where a run stands: a resumed run draws what the uninterrupted one would have drawn."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*place: int | str) -> int:
    """A 63-bit seed from a path such as (seed, "cdc", epoch, step, "views"); equal paths, equal seeds."""
    digest = hashlib.sha256("/".join(str(part) for part in place).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_of(*place: int | str) -> torch.Generator:
    """A CPU generator at that seed."""
    return torch.Generator().manual_seed(seed_of(*place))
