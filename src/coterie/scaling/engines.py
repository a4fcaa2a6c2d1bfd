"""Who does the work: this process, or workers of Ray with one model each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from coterie._version import __version__
from coterie.data.addresses import is_address
from coterie.data.files import path_of
from coterie.data.named_files import names
from coterie.types import InputError

ENGINES = ("local", "ray")


@runtime_checkable
class Task(Protocol):
    """What is done with one number after the other; it can be pickled as long as nothing was done with it.

    `device`: as on the command line; `threads`: those of torch, on which the last bits of a product may depend.
    """

    @property
    def device(self) -> str: ...

    @property
    def threads(self) -> int: ...

    def __call__(self, number: int) -> str: ...


Engine = Callable[[Task, Sequence[int]], Iterator[str]]
"""Has a task done with all these numbers, in any order, and yields each answer when it is there."""


def here(task: Task, numbers: Sequence[int]) -> Iterator[str]:
    """The engine of this process: one number after the other."""
    yield from map(task, numbers)


def check_version(of_command: str) -> None:
    """Raise InputError in a worker that has another coterie than the command that it works for."""
    if of_command != __version__:
        raise InputError(f"A worker has coterie {__version__}, the command {of_command}: install one version.")


def absolute(text: str) -> str:
    """The path of a source as every process finds it; the name of a data set, and an address, as it is.

    Raises InputError.
    """
    return text if text in names() or is_address(text) else os.path.abspath(path_of(text))


def engine_called(name: str, workers: int | None = None) -> Engine:
    """An engine by its name, with so many workers. Raises InputError."""
    if name not in ENGINES:
        raise InputError(f"The engine is {name!r}: it is {' or '.join(ENGINES)}.")
    if workers is not None and (name == "local" or workers < 1):
        wrong = "the local engine has none" if name == "local" else f"{workers} cannot work"
        raise InputError(f"workers are processes of Ray, at least one, and {wrong}.")
    if name == "local":
        return here
    from coterie.scaling.ray import OnRay

    return OnRay(workers)
