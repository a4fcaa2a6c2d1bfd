"""Settings of a method that are refused before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest

from coterie.contract import Facts
from coterie.training.plan import RunSettings, make_plan
from coterie.types import InputError


def assert_refused(method: str, given: dict[str, Any], facts: Facts, message: str) -> None:
    """No plan for such items has these settings of the method, and the error says this."""
    overrides = {f"{method}.{name}": value for name, value in given.items()}
    with pytest.raises(InputError, match=message):
        make_plan(RunSettings(n_clusters=facts.k, method=method, calibrate=False, overrides=overrides), facts, "data")
