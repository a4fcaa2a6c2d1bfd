"""`coterie fit` and `coterie demo`: settings from options and files, a run, its metrics and its report."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coterie.cli.accept_answer import to_judge
from coterie.cli.folders import FOLDER, run_folder
from coterie.cli.labels import find_labels, of_this_run
from coterie.cli.output import print_object
from coterie.cli.speech import NextStep, Speech, to_review
from coterie.cli.summary import print_summary, show_plan, summarise
from coterie.common.isolation import in_own_state
from coterie.common.outputs import check_folder, printable, typed
from coterie.common.shortage import shortage
from coterie.data import GROUPS, Labels
from coterie.data.spaces import Spaces
from coterie.encoders.catalogue import AUTO
from coterie.measuring import evaluate_run
from coterie.pipeline import RunResult, run
from coterie.records import read_record
from coterie.report import write_report
from coterie.report.page import render
from coterie.report.read import read_run
from coterie.running.beginning import check_beginning
from coterie.running.deciding import SPACES, by_items, resolve
from coterie.running.prepared import Prepared, Watch, items_of
from coterie.running.preparing import prepare
from coterie.training.coerce import coerce
from coterie.training.device import several_processes
from coterie.training.interrupt import Stopped
from coterie.training.plan import RunSettings, check_several
from coterie.training.runfolder import Resume, check_new
from coterie.training.sameness import same_items
from coterie.types import CoterieError, InputError, RunFailed, Skipped, Source


@dataclass
class FitRequest:
    """What the user asked `fit` for; `settings` are those of RunSettings by name."""

    source: str | Spaces
    settings: dict[str, Any]
    out: Path | None
    resume: Resume = False
    dry_run: bool = False
    as_json: bool = False
    labels: str | None = None
    config: Path | None = None
    label_column: str | None = None
    beside: Mapping[str, Any] | None = None  # the record of a run beside this one
    several: Path | None = None  # of one of several runs: the folder of all, which the command was given
    speech: Speech = field(default_factory=Speech)

    @property
    def named(self) -> str:
        """The source, or the first of several spaces: what labels may come with."""
        return self.source if isinstance(self.source, str) else (self.source.paths or [str(self.source)])[0]


@dataclass(frozen=True)
class Finished:
    """A run with its folder, its report, its metrics where labels are known, and the seconds that all of it took."""

    done: RunResult
    out: Path
    page: Path
    metrics: dict[str, Any] | None
    seconds: float


@in_own_state
def fit_source(request: FitRequest) -> None:
    """Run a request, or show its plan, and print the result. Raises InputError and RunFailed."""
    if request.dry_run:
        show_plan(check(request), as_json=request.as_json)
        return
    finished = fit_run(request)
    if finished is None:
        return
    tell(request, finished)
    if not request.as_json:
        suggest(request, finished)


@in_own_state
def fit_run(request: FitRequest) -> Finished | None:
    """Run a request; None in all processes but the first of several. Raises InputError and RunFailed."""
    settings = settled_with_folder(request)
    begun = time.monotonic()
    with run_folder(request.out, name_of_a_run(request, settings)) as out:
        done = train(request, settings, out)
    if not first_process():
        return None
    metrics, page = describe(request, done, out)
    return Finished(done, out, page, metrics, time.monotonic() - begun)


def name_of_a_run(request: FitRequest, settings: RunSettings) -> str:
    """What the folder of a run is called where the user names none."""
    return f"{Path(request.named).resolve().stem}-{'auto' if settings.by_items else settings.method}"


def settled_with_folder(request: FitRequest) -> RunSettings:
    """The settings of a request whose run folder takes nothing that it reads. Raises InputError."""
    settings = settled(request)
    if request.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("Several processes need one run folder: give it with -o.")
    check_folder(request.out, [request.labels if request.labels != "folders" else None, request.config])
    return settings


def settled(request: FitRequest) -> RunSettings:
    """The settings of a request, with the number of groups that its source is known for. Raises InputError."""
    method = SPACES if isinstance(request.source, Spaces) else AUTO
    settings = resolve(coerce(RunSettings, {"method": method, **request.settings}, "run"))
    card = check_beginning(settings)
    if settings.n_clusters != "auto":
        check_several(settings.n_clusters)
    if "n_clusters" not in request.settings and settings.finetune:
        settings = replace(settings, n_clusters="auto")  # that of the run to go on from
    elif "n_clusters" not in request.settings:
        if request.named not in GROUPS:
            finds = f"{card.title} can find it" if card.without_k else "coterie choose-k says which stand out"
            raise InputError(f"How many groups? Give their number with -k, for example -k 10, or -k auto: {finds}.")
        settings = replace(settings, n_clusters=GROUPS[request.named])
    if request.resume and request.out is None:
        raise InputError("--resume needs the run folder to go on with: give it with -o.")
    return settings


def tell(request: FitRequest, finished: Finished) -> None:
    """Print the summary, or the object of --json."""
    summary = summarise(finished.out, finished.done, finished.metrics)
    if request.as_json:
        print_object(summary)
    else:
        print_summary(summary, finished.done, finished.page, finished.seconds)


def suggest(request: FitRequest, finished: Finished) -> None:
    """What may be done with a finished run."""
    out = finished.out
    spaces = len(request.source.paths) if isinstance(request.source, Spaces) else 0
    new = ("--features", "NEW.npy") * spaces if spaces else ("NEW",)
    accept: NextStep = ("accept", out), "which items may be taken as they are"
    if not finished.done.record["calibrated"]:  # `accept` alone refuses these confidences
        accept = to_judge(out, len(finished.done.assignments.ids))
    request.speech.suggest(
        to_review(out),
        accept,
        (("predict", out, *new, "-o", "new.parquet"), "assign new items to the groups"),
    )


def describe(request: FitRequest, done: RunResult, out: Path) -> tuple[dict[str, Any] | None, Path]:
    """The metrics, where labels are known, and the report. Raises RunFailed without one, of a run that stays done."""
    metrics, failed = None, None
    try:
        try:
            labels = usable_labels(request, done.assignments.ids, done.source.skipped, done.source.notes, out)
            metrics = evaluate_run(out, labels) if labels is not None else None
        except (CoterieError, OSError, MemoryError) as error:
            failed = (
                f"it could not be compared with the labels ({_inner(error)})",
                f"coterie evaluate {typed(out)} --labels ...",
            )
        try:
            page = write_report(out)
        except (CoterieError, OSError, MemoryError) as error:
            failed = f"its report could not be written ({_inner(error)})", f"coterie report {typed(out)}"
    except KeyboardInterrupt as stopped:
        text = f"Stopped. The run is done and kept in {out}; coterie report {typed(out)} writes its report."
        raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
    if failed is not None:
        raise RunFailed(f"The run is done and kept in {out}, but {failed[0]}.", f"Again: {failed[1]}")
    return metrics, page


def _inner(error: BaseException) -> str:
    """The message of an error within another sentence."""
    return str(error).removesuffix(".")


def first_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` started; only that one speaks and writes.

    `RANK` without a number of processes is nobody's launcher: a user's own scripts may well set it.
    """
    return os.environ.get("RANK", "0") == "0" or not several_processes()


def train(request: FitRequest, settings: RunSettings, out: Path) -> RunResult:
    """The run itself, watched. A run that fails leaves a report that says why."""
    speech = request.speech if first_process() else Speech(quiet=True)
    command = printable(shlex.join(["coterie", *sys.argv[1:]]))
    try:
        with speech.bar() as bar:

            def ready(source: Source) -> None:
                bar.items = len(source.items)
                check_beside(request.beside or {}, settings, source, out)
                check_labels(request, source)

            def begun() -> None:
                if first_process():
                    # The report of what is known now: what it cannot show, it should not in hours.
                    render(read_run(out))

            watch = Watch(
                ready,
                begun,
                progress=bar,
                say=bar.say,
                predicted=bar.predicted,
                reading=bar.reading,
                timed=not speech.quiet,
            )
            return run(request.source, settings, out, resume=request.resume, command=command, watch=watch)
    except RunFailed:
        if first_process():
            write_report(out)
        raise
    except KeyboardInterrupt as stopped:
        if (text := after_stop(out, request.several)) is None:
            raise
        raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
    except Exception as error:
        if (few := shortage(error)) is None:
            raise
        again = f"the same command with -o {typed(request.several or out)} --resume goes on."
        raise RunFailed(few, f"What was done is kept: {again}" if kept(out) else "") from error


def check_beside(record: Mapping[str, Any], settings: RunSettings, source: Source, out: Path) -> None:
    """Raise InputError for a run on other data than the run beside it, or for which `auto` comes to another method."""
    if not same_items(record.get("source") or {}, items_of(source)):
        raise InputError(
            f"The data have changed since the runs beside {out} were begun: start new ones in another folder."
        )
    before = (record.get("settings") or {}).get("method")
    if settings.by_items and before is not None and before != (method := by_items(settings, source)[0].method):
        raise InputError(
            f"The runs beside {out} were begun with --method {before}, and --method auto comes to {method} for such "
            f"items: give --method {before}, or another folder with -o."
        )


def after_stop(out: Path, several: Path | None = None) -> str | None:
    """The message when a run is stopped, by what its folder holds; None where it holds nothing yet.

    several: the folder of all runs, if it is one of them.
    """
    again = f"the same command with -o {typed(several or out)} --resume"
    if not (out / "run.yaml").exists():
        if not (out / "cache" / "features").is_dir():
            return None
        again = (
            again if several else f"the same command with -o {typed(out)}"
        )  # before there is a run, nothing is resumed
        return f"Stopped. The pictures that were embedded are kept: {again} goes on."
    if read_record(out).get("status") == "done":
        return f"Stopped. The run in {out} was done before, and is what it was."
    if kept(out):
        return f"Stopped. What was done is kept in {out}: {again} goes on."
    return f"Stopped before anything was learned: {again} begins anew."


def kept(out: Path) -> bool:
    """Whether a run folder holds anything to go on from."""
    return any((out / "checkpoints").glob("*.safetensors"))


def check(request: FitRequest) -> Prepared:
    """All that a run checks before it trains. Makes no folder."""
    settings, out = settled_with_folder(request), request.out
    if out is None or not out.exists():
        check_new(out or FOLDER / name_of_a_run(request, settings))
        out = None
    prepared = prepare(request.source, settings, out, resume=request.resume, watch=Watch(dry=True))
    prepared.folder.release()
    check_labels(request, prepared.source)
    return prepared


def check_labels(request: FitRequest, source: Source) -> None:
    """Raise InputError for labels that do not fit the source; to be used they are read again when training is over."""
    if request.labels is not None or request.label_column is not None:
        find_labels(request.named, request.labels, request.label_column, source.ids, source.skipped)


def usable_labels(
    request: FitRequest, ids: Sequence[str], skipped: Sequence[Skipped], notes: list[str], run: Path
) -> Labels | None:
    """The labels to measure with. Those that come with the source unasked, and cannot be used, are a note.

    run: a finished run of the request, whose source may have changed while it was trained.
    """
    try:
        found = find_labels(request.named, request.labels, request.label_column, ids, skipped)
        if found is None or not (found.by_row or request.labels is None) or isinstance(request.source, Spaces):
            return found
        return of_this_run(found, request.named, ids, run, read_record(run))
    except InputError as error:
        if request.labels is not None or request.label_column is not None:
            raise
        notes.append(f"Not measured against the labels of {request.source}: {error}")
        return None
