"""One export: items and options -> files in one or several formats."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from coterie.common.outputs import Given
from coterie.data.originals import Originals, has_pictures, originals_of, place_of
from coterie.export.items import Items, chosen, items_of_run
from coterie.export.jobs import Job, Options, version_of
from coterie.export.registry import FileFormat, FolderFormat, Format, format_names, format_of
from coterie.export.writing import Tree, check_place, head_of, new_file, new_tree, take_back
from coterie.records.run import judgements_in
from coterie.types import InputError

Copied = Callable[[str, int, int], None]  # the format, how many pictures are written, of how many items


@dataclass(frozen=True)
class Exported:
    """What was written in one format."""

    format: str
    place: Path
    items: int
    left_out: int  # items that were asked for and could not be written, or belong to no group; `notes` say which
    notes: list[str]


def export_run(run: Path, formats: Sequence[str], out: Path, options: Options) -> list[Exported]:
    """Write a run folder's items in these formats, as reviewed where it has a review. Raises InputError."""
    return export(items_of_run(run, original=options.original), formats, out, options, [run])


def export(
    items: Items,
    formats: Sequence[str],
    out: Path,
    options: Options,
    reads: Sequence[Given] = (),
    progress: Copied | None = None,
) -> list[Exported]:
    """Write the items in these formats; of several each gets its own place inside of `out`. Raises InputError.

    One format: `out` is its file or folder. Several: `out` is a folder, whole or not at all.
    """
    found = {name: format_of(name) for name in dict.fromkeys(formats)}
    if not found:
        raise InputError("No format is named: give at least one, such as csv.")
    _refuse_unused(items, found, options)
    several = len(found) > 1
    first = next(iter(found.values()))
    if not several and isinstance(first, FileFormat) and out.suffix.lower() != first.ending:
        raise InputError(f"{next(iter(found))} is one file: -o {out} must end in {first.ending}.")
    folder = several or isinstance(first, FolderFormat)
    record_path = (items.record.get("source") or {}).get("path")
    reads = [*reads, options.source, record_path if isinstance(record_path, str) and record_path[:1] == "/" else None]
    if folder:
        take_back(Path(os.path.realpath(out)))
    path = check_place(out, reads, folder=folder, overwrite=options.overwrite)
    jobs = _jobs(items, found, options)
    shown = any(form.pictures for form in found.values())
    if (note := _changed(items, options, next(iter(jobs.values())).look_up, shown=shown)) is not None:
        for job in jobs.values():
            job.notes.append(note)
    if several:
        return _write_several(path, out, found, jobs, progress)
    ((name, job),) = jobs.items()
    if isinstance(first, FileFormat):
        with new_file(path) as place:
            first.write(place, job)
    else:
        with new_tree(path, _head(job, name), _watch(progress, name, job)) as tree:
            first.write(tree, job)
    return [_exported(name, job, out)]


def _write_several(
    path: Path, out: Path, found: Mapping[str, Format], jobs: Mapping[str, Job], progress: Copied | None
) -> list[Exported]:
    """Write each format to its own place in one folder."""
    done = []
    with new_tree(path, head_of(to=list(found))) as whole:
        for name, form in found.items():
            if isinstance(form, FileFormat):
                place = whole.place(f"{name}{form.ending}")
                with _naming(name):
                    form.write(place, jobs[name])
                done.append(_exported(name, jobs[name], out / place.name))
                continue
            watch = _watch(progress, name, jobs[name])
            part = Tree(whole.root / name, _head(jobs[name], name), watch=watch)
            part.root.mkdir()
            with _naming(name):
                form.write(part, jobs[name])
            part.finish()
            whole.lines += [{"file": f"{name}/{line['file']}"} for line in part.lines if "file" in line]
            whole.lines.append({"file": f"{name}/coterie.jsonl"})
            done.append(_exported(name, jobs[name], out / name))
    return done


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """An InputError says of which of several formats it is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _refuse_unused(items: Items, formats: Iterable[str], options: Options) -> None:
    """Raise InputError for an option that none of the formats heeds, or that says where no pictures are."""
    if options.source is not None and not has_pictures(items.record):
        raise InputError("--source says where the pictures are, and the run is over embeddings: leave --source out.")
    known = {name: format_of(name) for name in format_names()}
    for option in dict.fromkeys(option for form in known.values() for option in form.heeds):
        heeding = [name for name, form in known.items() if option in form.heeds]
        if getattr(options, option) != getattr(Options(), option) and not set(heeding).intersection(formats):
            name, given = f"--{option.replace('_', '-')}", ", ".join(formats)
            raise InputError(f"{name} is for {' and '.join(heeding)}, and changes nothing of {given}: leave it out.")


def _jobs(items: Items, found: dict[str, Format], options: Options) -> dict[str, Job]:
    """A job for each format. Raises InputError for what cannot be done, before anything is written."""
    jobs: dict[str, Job] = {}
    look_up, version = cache(lambda: originals_of(items.record, items.ids, options.source)), version_of(items)
    for name, form in found.items():
        only = options.only or form.only
        ordered = only == "undecided"
        taken = chosen(items, only, None if ordered else options.limit)
        if ordered:
            taken = most_doubtful_first(taken)
            taken = taken if options.limit is None else taken.take(np.arange(min(options.limit, len(taken))))
        jobs[name] = Job(taken, options, look_up, version)
        if not form.pictures:
            continue
        try:
            look_up()
        except InputError as error:
            raise InputError(str(error) if len(found) == 1 else f"{name} needs the pictures. {error}") from error
    return jobs


def _changed(items: Items, options: Options, look_up: Callable[[], Originals], *, shown: bool) -> str | None:
    """What to say where pictures were exchanged since the run saw them: their groups would be those of others.

    A format that is `shown` no pictures does without a look at a table or an array, which would be read for it alone,
    and at files that are not there.
    """
    source = items.record.get("source") or {}
    if source.get("read_at") is None:  # of a run of an older version
        return None
    try:
        place = place_of(source, str(source.get("origin") or ""), options.source)
        return look_up().changed() if shown or place.is_dir() else None
    except InputError:
        return None


def _watch(progress: Copied | None, name: str, job: Job) -> Callable[[], None]:
    """Counts the pictures of a job."""
    numbers = itertools.count(1)

    def one_more() -> None:
        if progress is not None:
            progress(name, next(numbers), len(job.items))

    return one_more


def most_doubtful_first(items: Items) -> Items:
    """By the margin between the likeliest group and the next: where a look tells most. Equal ones: the lower row first.

    Of a result that keeps no probabilities, and of an item that belongs nowhere, by the confidence.
    """
    margin = np.nan_to_num(items.confidence, nan=1.0).astype(np.float64)
    if items.probabilities is not None and items.probabilities.shape[1] > 1:
        top = np.partition(items.probabilities, -2, axis=1)[:, -2:]
        margin = (top[:, 1] - top[:, 0]).astype(np.float64)
    return items.take(np.argsort(margin, kind="stable"))


def _head(job: Job, name: str) -> dict[str, Any]:
    source, judged = job.items.record.get("source") or {}, judgements_in(job.items.record)
    taught = {"labels_used": judged} if judged else {}
    return head_of(to=name, version=job.version, fingerprint=source.get("fingerprint"), **taught)


def _exported(name: str, job: Job, place: Path) -> Exported:
    return Exported(name, place, len(job.items) - job.left_out, job.left_out, job.notes)
