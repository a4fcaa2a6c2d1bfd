"""A run that is stopped in its middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coterie.networks.net import Net
from coterie.preparing import Watch


class Interrupted(Exception):
    """What stops a run in its middle."""


def watching(stop_after: int) -> Watch:
    """Stops a run after so many epochs of a stage."""

    def look(record: Any, net: Net) -> None:
        if record.epoch == stop_after:
            raise Interrupted

    looks: list[Callable[..., None]] = [look]
    return Watch(after_epoch=looks)
