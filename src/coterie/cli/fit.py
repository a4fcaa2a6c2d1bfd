"""`coterie fit` and `coterie demo`: settings from options and files, a run, its metrics and its report."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from coterie.beginning import check_beginning
from coterie.cli.output import print_object, run_summary
from coterie.cli.progress import StageBar
from coterie.data import GROUPS, Labels, labels_from_folders, labels_of, read_label_file
from coterie.data.spaces import Spaces
from coterie.deciding import resolve
from coterie.forecast import forecast
from coterie.isolation import isolated
from coterie.outputs import check_folder, printable
from coterie.pipeline import RunResult, evaluate_run, run
from coterie.preparing import Prepared, Watch, prepare
from coterie.report import write_report
from coterie.report.page import render
from coterie.report.read import read_run
from coterie.shortage import shortage
from coterie.training.interrupt import Stopped
from coterie.training.plan import RunSettings, coerce
from coterie.types import CoterieError, InputError, RunFailed, Skipped, Source

METRICS = ("acc", "nmi", "ari", "ece", "confidence")
LISTED = 10  # images left out that are named on the screen


@dataclass
class FitRequest:
    """What the user asked `fit` for; `settings` are those of RunSettings by name."""

    source: str | Spaces
    settings: dict[str, Any]
    out: Path | None
    resume: bool = False
    dry_run: bool = False
    as_json: bool = False
    labels: str | None = None
    config: Path | None = None
    label_column: str | None = None
    quiet: bool = False

    @property
    def named(self) -> str:
        """The source, or the first of several spaces: what labels may come with."""
        return self.source if isinstance(self.source, str) else (self.source.paths or [str(self.source)])[0]


@isolated
def fit_source(request: FitRequest) -> None:
    """Run a request and print its summary. Raises InputError and RunFailed."""
    settings = resolve(coerce(RunSettings, {"method": "auto", **request.settings}, "run"))
    card = check_beginning(settings)
    if "n_clusters" not in request.settings and settings.finetune:
        settings = replace(settings, n_clusters="auto")  # that of the run to go on from
    elif "n_clusters" not in request.settings:
        if request.named not in GROUPS:
            finds = f"{card.title} can find it" if card.without_k else "coterie choose-k says which stand out"
            raise InputError(f"How many groups? Give their number with -k, for example -k 10, or -k auto: {finds}.")
        settings = replace(settings, n_clusters=GROUPS[request.named])
    if request.resume and request.out is None:
        raise InputError("--resume needs the run folder to go on with: give it with -o.")
    if request.dry_run:
        show_plan(check(request, settings), as_json=request.as_json)
        return
    if request.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("Several processes need one run folder: give it with -o.")
    check_folder(request.out, [request.labels if request.labels != "folders" else None, request.config])
    begun = time.monotonic()
    first = request.out or Path("runs")
    made = [folder for folder in (first, *first.parents) if not os.path.lexists(folder)]
    out = request.out or new_folder(
        Path("runs"), f"{Path(request.named).resolve().stem}-{'auto' if settings.by_items else settings.method}"
    )
    try:
        done = train(request, settings, out)
    finally:
        for folder in made if request.out is not None else (out, *made):
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()  # the run was refused before anything was written
    if not first_process():
        return
    metrics, page = describe(request, done, out)
    summary = summarise(out, done, metrics)
    if request.as_json:
        print_object(summary)
    else:
        print_summary(summary, done, page, time.monotonic() - begun)


def describe(request: FitRequest, done: RunResult, out: Path) -> tuple[dict[str, Any] | None, Path]:
    """The metrics, where labels are known, and the report. Raises RunFailed without one, of a run that stays done."""
    metrics, failed = None, None
    try:
        labels = usable_labels(request, done)
        metrics = evaluate_run(out, labels) if labels is not None else None
    except (CoterieError, OSError, MemoryError) as error:
        failed = f"it could not be compared with the labels ({error})", f"coterie evaluate {out} --labels ..."
    try:
        page = write_report(out)
    except (CoterieError, OSError, MemoryError) as error:
        failed = f"its report could not be written ({error})", f"coterie report {out}"
    if failed is not None:
        raise RunFailed(f"The run is done and kept in {out}, but {failed[0]}.", f"Again: {failed[1]}")
    return metrics, page


def first_process() -> bool:
    """Whether this is the first of the processes that `accelerate launch` started; only that one speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def train(request: FitRequest, settings: RunSettings, out: Path) -> RunResult:
    """The run itself, watched. A run that fails leaves a report that says why."""
    quiet = request.quiet or not first_process()
    command = printable(shlex.join(["coterie", *sys.argv[1:]]))
    try:
        with StageBar(Console(stderr=True, quiet=quiet), quiet=quiet) as bar:

            def ready(source: Source) -> None:
                bar.items = len(source.items)
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
                timed=not quiet,
            )
            return run(request.source, settings, out, resume=request.resume, command=command, watch=watch)
    except RunFailed:
        if first_process():
            write_report(out)
        raise
    except KeyboardInterrupt as stopped:
        if not (out / "run.yaml").exists():
            if not (out / "cache" / "features").is_dir():
                raise
            text = f"Stopped. The pictures that were embedded are kept: the same fit command with -o {out} goes on."
            raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
        text = f"Stopped before anything was learned: the same fit command with -o {out} --resume begins anew."
        if kept(out):
            text = f"Stopped. What was done is kept in {out}: the same fit command with -o {out} --resume goes on."
        raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
    except Exception as error:
        if (few := shortage(error)) is None:
            raise
        goes_on = f"What was done is kept: the same fit command with -o {out} --resume goes on." if kept(out) else ""
        raise RunFailed(few, goes_on) from error


def kept(out: Path) -> bool:
    """Whether a run folder holds anything to go on from."""
    return any((out / "checkpoints").glob("*.safetensors"))


def check(request: FitRequest, settings: RunSettings) -> Prepared:
    """All that a run checks before it trains. Makes no folder."""
    out = request.out if request.out is not None and request.out.exists() else None
    prepared = prepare(request.source, settings, out, resume=request.resume, watch=Watch(dry=True))
    prepared.folder.release()
    check_labels(request, prepared.source)
    return prepared


def check_labels(request: FitRequest, source: Source) -> None:
    """Raise InputError for labels that do not fit the source; to be used they are read again when training is over."""
    if request.labels is not None or request.label_column is not None:
        find_labels(request.named, request.labels, request.label_column, source.ids, source.skipped)


def usable_labels(request: FitRequest, done: RunResult) -> Labels | None:
    """The labels to measure with. Those that come with the source unasked, and cannot be used, are no failure."""
    try:
        return find_labels(
            request.named, request.labels, request.label_column, done.assignments.ids, done.source.skipped
        )
    except InputError as error:
        if request.labels is not None or request.label_column is not None:
            raise
        done.source.notes.append(f"Not measured against the labels of {request.source}: {error}")
        return None


def find_labels(
    source: str, wanted: str | None, column: str | None, ids: Sequence[str], skipped: Sequence[Skipped]
) -> Labels | None:
    """True labels: of a file, of the folders' names, or those that come with the source; `column` of a table."""
    if wanted == "folders":
        if column is not None:
            raise InputError("--label-column names a column of a file, but --labels folders reads none: leave one out.")
        return labels_from_folders(ids)
    if wanted is not None:
        return read_label_file(Path(wanted), ids, [item.id for item in skipped], column)
    return labels_of(source, ids, column)


def summarise(out: Path, done: RunResult, metrics: dict[str, Any] | None) -> dict[str, Any]:
    """The object of --json."""
    record = done.record
    summary = {
        **run_summary(out, record),
        "calibrated": record["calibrated"],
        "skipped_items": record["source"]["skipped"],
    }
    if metrics is not None:
        summary["metrics"] = {name: metrics[name] for name in METRICS}
        summary["labels"] = metrics.get("labels", "")
        summary["heads"] = {name: {key: head[key] for key in METRICS} for name, head in metrics["heads"].items()}
    summary["sizes"] = done.assignments.probabilities.argmax(1).bincount(minlength=record["n_clusters"]).tolist()
    summary["warnings"] = record["warnings"]
    return summary


def print_summary(summary: dict[str, Any], done: RunResult, page: Path, seconds: float) -> None:
    """A few lines for a person."""
    confidence = done.assignments.probabilities.max(1).values
    print(
        f"{summary['n']:,} items in {summary['k']} groups, {seconds:.0f} s. Mean confidence {confidence.mean():.2f}"
        f"{'' if summary['calibrated'] else ' (not calibrated)'}; ",
        end="",
    )
    print(f"{(confidence > 0.9).float().mean():.0%} of the items above 0.9.")
    for name, head in summary.get("heads", {}).items():
        print(f"  {name:<8}" + "  ".join(f"{key.upper()} {head[key]:.3f}" for key in METRICS))
    if summary.get("labels"):
        print(f"Labels: {summary['labels']}.")
    if summary["skipped"]:
        print(f"{summary['skipped']} unreadable images were left out; {summary['run']}/run.yaml lists them all:")
        for item in summary["skipped_items"][:LISTED]:
            print(f"  {item['id']}: {item['reason']}")
    for text in (*done.source.notes, *summary["warnings"]):
        print(f"Note: {text}")
    print(f"Report: {page}\nTable:  {Path(summary['run']) / 'result.parquet'}")


def show_plan(prepared: Prepared, *, as_json: bool) -> None:
    """What a run would do, and first how long it would take."""
    plan, expected = prepared.record(""), forecast(prepared)
    if as_json:
        for stage, timed in zip(plan["stages"], expected.stages if expected else (), strict=False):
            stage["estimate_seconds"] = round(timed.seconds, 1)
        first = {"estimate_seconds": None if expected is None else round(expected.seconds, 1)}
        first |= {"data": plan["source"]["name"], "n": plan["source"]["n"], "k": plan["n_clusters"]}
        print_object({**first, **plan})
        return
    plan["views"] = views_that_matter(plan["views"], plan["source"]["family"])
    kept = ["source", "n_clusters", "seed", "stages", "calibration", "views", "backbone", "device", "precision"]
    kept = [name for name in kept if plan[name] is not None]
    if expected is not None:
        plan, kept = {"estimate": str(expected), **plan}, ["estimate", *kept]
    print(
        yaml.safe_dump({name: plan[name] for name in [*kept, "notes", "warnings"]}, sort_keys=False, width=120), end=""
    )


def views_that_matter(views: dict[str, Any], family: str) -> dict[str, Any]:
    """The settings of views without those of other kinds of data, which no run on these reads."""
    others = {"photo": ("vector_", "glyph_"), "glyph": ("vector_", "crop_", "flip", "enlarge", "perturbed_")}
    if family == "vector":
        return {name: value for name, value in views.items() if name.startswith(("vector_", "row_norm"))}
    return {name: value for name, value in views.items() if not name.startswith(others[family])}


def new_folder(parent: Path, name: str) -> Path:
    """Make `parent/name`, or the first of name-2, name-3, ... that is not there: no two processes get the same one."""
    name = printable(name)
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a system whose file names are ASCII
        name = name.encode("ascii", "backslashreplace").decode()
    name = name if len(name.encode()) < 200 else name[-60:]
    folder, number = parent / name, 2
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                folder, number = parent / f"{name}-{number}", number + 1
    except OSError as error:
        raise InputError(f"The run folder {folder} cannot be made ({error.strerror}): choose one with -o.") from error
