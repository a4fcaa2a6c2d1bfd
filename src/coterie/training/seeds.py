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


def seed_torch(*place: int | str) -> None:
    """Set torch's own generators to that seed, as `torch.manual_seed` does, but only those of devices in use.

    For those not in use torch keeps the call with its stack of frames, whose text takes 0.3 ms: too much for each step.
    """
    seed = seed_of(*place)
    torch.default_generator.manual_seed(seed)
    for module in (torch.cuda, torch.xpu):
        if module.is_initialized():
            module.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
