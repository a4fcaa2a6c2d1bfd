"""Prediction of a source in partitions: the job, the work on one part, and the driver of all parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from coterie._version import __version__
from coterie.data.decode import of_the_system
from coterie.data.fingerprint import file_digest
from coterie.data.parted import Parted
from coterie.data.picture_form import Options
from coterie.data.pictures import too_many
from coterie.data.spaces import Spaces
from coterie.encoders.opening import part_items
from coterie.prediction.model import Model, load_model
from coterie.prediction.results import table_of
from coterie.records.recalibration import FILE
from coterie.scaling.engines import Engine, check_version, here
from coterie.scaling.partitions import Part, Parts, cut, notes_of
from coterie.training.device import accelerator_for
from coterie.types import Assignments, InputError, Skipped

MAX_SKIPPED = Options.max_skipped  # as for a source that is read in one piece
After = Callable[[Assignments], tuple[Assignments, int]]
"""What is done with the probabilities of a part, and how many judged labels stand behind it; `pickle` must know it."""


@dataclass(frozen=True)
class Asked:
    """What is to be predicted of the items of `source` by the model in `run`."""

    run: Path
    source: str | Spaces
    device: str = "auto"
    embedding: bool = False
    scores: Sequence[str] = ()
    after: After | None = None
    labels_used: int = 0  # judgements that took part in the run itself


@dataclass(frozen=True)
class PredictionJob:
    """All that a worker needs. Paths are absolute and must mean the same to every worker."""

    asked: Asked
    parts: Parts
    stamp: str  # of the source as the driver found it
    threads: int
    version: str = __version__


@dataclass
class Worker:
    """Predicts parts of one job. The model is loaded with the first part and kept, and so is the look at the source."""

    job: PredictionJob
    _opened: tuple[Model, Parted] | None = field(default=None, repr=False)

    @property
    def device(self) -> str:
        return self.job.asked.device

    @property
    def threads(self) -> int:
        return self.job.threads

    def __call__(self, number: int) -> str:
        """Predict one part, unless its file is there; returns `Part.said`. Raises InputError."""
        return self._done(number).said()

    def _done(self, number: int) -> Part:
        job = self.job
        if (done := job.parts.done(number)) is not None:  # by a worker that died before it could say so
            return done
        model, source = self._open()
        items = source.open(*job.parts.cut.range(number))
        if len(items.items):
            found = model.predict(items, embedding=job.asked.embedding, ood_scores=job.asked.scores)
            said, used = (found, job.asked.labels_used) if job.asked.after is None else job.asked.after(found)
            table = table_of(said, used)
        else:
            table = table_of(Assignments([], torch.empty(0, model.k)))
        part = Part(number, len(items.items), items.skipped, items.notes)
        job.parts.write(part, table)
        return part

    def _open(self) -> tuple[Model, Parted]:
        if self._opened is None:
            asked = self.job.asked
            check_version(self.job.version)
            model = load_model(asked.run, accelerator_for(asked.device).device)
            source = part_items(asked.source, model.spec, asked.device, self.job.threads)
            if source.stamp != self.job.stamp:
                raise InputError(f"{asked.source} has changed since the command began: run it again.")
            self._opened = model, source
        return self._opened


@dataclass(frozen=True)
class Done:
    """A prediction that is done, part by part."""

    parts: Parts
    model: Model
    name: str  # of the source
    rows: int
    skipped: list[Skipped]
    notes: list[str]
    reused: int  # parts that were there already


def predict_parts(
    asked: Asked,
    folder: Path,
    engine: Engine = here,
    *,
    own: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Done:
    """Write the missing parts of a prediction to `folder`; `progress` is called with the number of items done.

    `own`: the folder is the command's own (`Parts.begin`). Raises InputError, also for more unreadable pictures than
    one in five.
    """
    model = load_model(asked.run, accelerator_for(asked.device).device)
    threads = torch.get_num_threads()
    source = part_items(asked.source, model.spec, asked.device, threads)
    parts = Parts(folder, _key(asked, source), cut(source.count, model.spec))
    source.open(0, 1)  # what does not fit the model is refused before anyone is set to work
    parts.begin(own=own)
    for number in range(len(parts.cut)):
        part = parts.done(number)
        if part is not None and any(of_the_system(item.reason) for item in part.skipped):
            parts.path(number).unlink()  # a disk that was away may be back
    missing = parts.missing()
    waiting = set(missing)
    found = [part for number in range(len(parts.cut)) if number not in waiting and (part := parts.done(number))]
    total, failed = source.count + len(source.locked), list(source.locked)
    done = 0

    def count(part: Part) -> None:
        nonlocal done
        start, stop = parts.cut.range(part.number)
        done += stop - start
        failed.extend(part.skipped)
        _check_skipped(failed, total, source.name)
        progress(done, source.count)

    for part in found:
        count(part)
    for said in engine(Worker(PredictionJob(asked, parts, source.stamp, threads)), missing) if missing else ():
        count(Part.of(said))
    every = parts.all_done()
    rows = sum(part.rows for part in every)
    if not rows:
        raise InputError(f"None of the {total} items of {source.name} could be read: give others.")
    parts.fill_empty()
    skipped = [item for part in every for item in part.skipped] + list(source.locked)
    return Done(parts, model, source.name, rows, skipped, notes_of(every), len(found))


def _check_skipped(failed: list[Skipped], total: int, name: str) -> None:
    if len(failed) > MAX_SKIPPED * total:
        first = f" (the first is {failed[0].id}: {failed[0].reason})"
        raise InputError(f"{too_many(f'At least {len(failed)}', total, name, first, MAX_SKIPPED)}.")


def _key(asked: Asked, source: Parted) -> str:
    """The key of a job, equal for parts of one table: the items, the model, and what is asked for."""
    folder = asked.run / "model" if (asked.run / "model").is_dir() else asked.run
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    if asked.after is not None:
        files.append(asked.run / FILE)
    digests = [(file.name, file_digest(file)) for file in files if file.is_file()]
    said = (source.stamp, source.count, digests, asked.embedding, tuple(asked.scores), asked.after is not None)
    return hashlib.sha256(repr((*said, __version__)).encode()).hexdigest()[:32]
