"""What is refused before anything is trained: by a command, and by the plan of a run."""

from __future__ import annotations

from typing import Any

import pytest

from coterie.contract import Facts
from coterie.training.plan import RunSettings, make_plan
from coterie.types import InputError


def refused(answer: Any, *words: str) -> None:
    """A command ended with exit code 2, nothing on standard output, and one sentence with these words on the other."""
    assert answer.code == 2, answer.err
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("coterie: ")
    assert line.endswith((".", "?"))
    for word in words:
        assert word in line


def refused_in_plan(method: str, given: dict[str, Any], facts: Facts, message: str) -> None:
    """No plan for such items has these settings of the method, and the error says this."""
    overrides = {f"{method}.{name}": value for name, value in given.items()}
    with pytest.raises(InputError, match=message):
        make_plan(RunSettings(n_clusters=facts.k, method=method, calibrate=False, overrides=overrides), facts, "data")
