"""Embedding of pictures by several workers: each makes chunks of the folder that one process alone would make."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from coterie._version import __version__
from coterie.data.items import Embeddings
from coterie.data.picture_form import Options
from coterie.data.pictures import Pictures
from coterie.data.source import open_as_asked
from coterie.data.survey import Survey
from coterie.encoders.embedding import ChunkPlan, ChunkWorker
from coterie.scaling.engines import Engine, absolute, check_version, engine_called, here
from coterie.types import InputError, Source

RUN = 4  # chunks that a worker is given at once


@dataclass
class EmbedTask:
    """Makes some chunks in a row of the embeddings of `source`; the number 3 means chunks 12 to 15."""

    source: str
    plan: ChunkPlan
    missing: frozenset[int]
    version: str = __version__
    threads: int = 1  # as each of the threads that embed in one process alone
    _worker: ChunkWorker | None = field(default=None, repr=False)

    @property
    def device(self) -> str:
        return str(self.plan.wanted.device)

    def __call__(self, number: int) -> str:
        """Make the chunks; returns the number of their pictures. Raises InputError."""
        check_version(self.version)
        self._worker = self._worker or self._begun()
        numbers = [at for at in range(number * RUN, (number + 1) * RUN) if at in self.missing]
        self._worker(numbers)
        return str(self.plan.job.pictures_in(numbers))

    def _begun(self) -> ChunkWorker:
        """Find the pictures as the source is opened, without the first pass over them, which the command has made."""
        found: list[ChunkWorker] = []

        def catch(pictures: Pictures, survey: Survey, options: Options) -> Source:
            found.append(ChunkWorker(self.plan, pictures, options))
            return Source("", "", Embeddings(np.empty((0, 1), np.float32)), [], "")

        survey = Survey.empty(self.plan.job.count)
        open_as_asked(self.source, Options(workers=self.threads, encode=catch, survey=survey, alone=True))
        return found[0]


def spread_of(source: Any, output: object, engine: str, workers: int | None) -> SpreadBy | None:
    """What makes the embeddings; None: this process. Raises InputError for a source that workers cannot find."""
    called = engine_called(engine, workers)
    if called is here:
        return None
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise InputError(f"engine='ray' reads a folder or a file by its path, which workers can find, not a {kind}.")
    if output is None:
        raise InputError("engine='ray' needs output, a folder that all workers can write to.")
    return SpreadBy(absolute(os.fspath(source)), called)


@dataclass(frozen=True)
class SpreadBy:
    """Lets an engine make the chunks of `source` (an `encoders.embedding.Spread`)."""

    source: str
    engine: Engine

    def __call__(self, plan: ChunkPlan, missing: Sequence[int]) -> Iterator[int]:
        if plan.wanted.weights is not None:  # the user's own file, by its absolute path
            plan = replace(plan, wanted=replace(plan.wanted, weights=plan.job.encoding.origin))
        elif os.path.isdir(plan.job.encoding.origin):
            plan = replace(plan, wanted=replace(plan.wanted, folder=plan.job.encoding.origin))
        task = EmbedTask(self.source, plan, frozenset(missing))
        yield from map(int, self.engine(task, sorted({number // RUN for number in missing})))
