"""What a command prints for machines."""

from __future__ import annotations

import json
from typing import Any


def print_object(value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """The one machine-readable object of --json."""
    print(json.dumps(value, indent=2, default=str))
