"""The engines that do the work: this process, or workers of Ray with one model each."""

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
    """A function of the number of a part. It can be pickled before its first call.

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
    """The engine of this process: one part after the other."""
    yield from map(task, numbers)


def check_version(of_command: str) -> None:
    """Raise InputError in a worker whose version of coterie differs from the command's."""
    if of_command != __version__:
        raise InputError(f"A worker has coterie {__version__}, the command {of_command}: install one version.")


def absolute(text: str) -> str:
    """The absolute path of a source, which every process can find; names of data sets and addresses stay.

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
