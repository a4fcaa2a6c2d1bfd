"""`coterie fit --runs 5`: the same fit with several seeds, matched and set side by side; the medoid is the answer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coterie.cli.compare import check_page, compared, print_comparison
from coterie.cli.fit import FitRequest, fit_run, settled, tell, usable_labels
from coterie.cli.output import METRICS, print_object, run_summary
from coterie.cli.speech import to_review
from coterie.data.labels import about
from coterie.data.originals import absolute_path
from coterie.encoders.catalogue import AUTO, NONE
from coterie.evaluation import evaluate
from coterie.networks.net import weights_digest
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result
from coterie.records import groups_of, judgements_in, read_record
from coterie.records.rows import taught_by
from coterie.report.compare import Comparison
from coterie.report.compare_page import render_comparison
from coterie.report.page import is_page, write_page
from coterie.running.prepared import plain_settings
from coterie.several import PAGE, TABLE, check_folder_of_runs, fit_each, gather, names_of, seeds_from
from coterie.training.coerce import coerce
from coterie.training.plan import RunSettings
from coterie.training.runfolder import Done, is_done
from coterie.training.sameness import same_items
from coterie.trusting import trust_runs
from coterie.types import InputError, RunFailed, Skipped

# Of the settings, all that make other runs are compared; these do not.
NOT_COMPARED = (
    *("by_items", "trained_by"),  # what `auto` comes to, which a record has only afterwards
    *("seed", "device"),  # each run has its own
    *("max_skipped", "store_embedding", "checkpoint_seconds"),  # the same answers of the same items
)
OF_PICTURES = ("weights", "image_size")  # which a named encoder takes, and the record does not have then


def fit_several(request: FitRequest, count: int, *, skip_failed: bool = False) -> None:
    """Fit with `count` seeds from the one given, into folders seed-0, seed-1, ... of -o. Raises InputError, RunFailed.

    With --resume the same command may be given several times at once: each process takes runs that no other has.
    skip_failed: seeds whose run fails are named and left out; at least two must end well.
    """
    out = request.out
    first = coerce(RunSettings, {"seed": request.settings.get("seed", 0)}, "run").seed
    seeds = seeds_from(first, count)
    if out is None:
        raise InputError("--runs needs a folder for the runs: give it with -o.")
    if request.dry_run:
        raise InputError("--runs goes with no --dry-run: leave one out; every run has the same plan.")
    check_folder_of_runs(out, names_of(seeds), resume=bool(request.resume))
    settings = settled(request)
    for name in names_of(seeds):
        check_alike(out / name, settings)

    def fit(seed: int, n_clusters: Any, folder: Path | None) -> int:
        """Fit one seed unless that is done, and return its number of groups. Raises Held where another process does."""
        assert folder is not None
        if not is_done(folder):
            own = {**request.settings, "seed": seed, "n_clusters": n_clusters}
            one, finished = replace(request, settings=own, out=folder, resume="unfinished", several=out), None
            one = replace(one, beside=first_begun([out / name for name in names_of(seeds)]))
            with contextlib.suppress(Done):  # by another process, after the look above
                finished = fit_run(one)
            if finished is not None and not request.as_json:  # of several runs the object is one for all
                tell(one, finished)
        return groups_of(read_record(folder)) or 0

    def waiting(names: list[str]) -> None:
        if not request.speech.quiet:
            print(f"Another process fits {', '.join(names)}: waiting for it.", file=sys.stderr)

    failed: dict[str, str] = {}

    def failing(seed: int, error: RunFailed) -> None:
        (name,) = names_of([seed])
        if not is_done(out / name):  # or only its report or its metrics failed
            failed[name] = error.reason
        if not request.speech.quiet:
            print(f"Seed {seed}: {error}", file=sys.stderr)

    try:
        fit_each(seeds, settings.n_clusters, fit, out, waiting, failing if skip_failed else None)
    except RunFailed as error:
        raise RunFailed(error.reason, f"{error.advice} --resume --skip-failed goes on without such seeds.") from error
    whole = [out / name for name in names_of(seeds) if name not in failed]
    if len(whole) < 2:
        reason = f"{len(failed)} of {count} runs failed, so there are no two to compare: {next(iter(failed.values()))}"
        raise RunFailed(reason, f"The folders in {out} say more.")
    finish(request, out, whole, failed)


def check_alike(run: Path, settings: RunSettings) -> None:
    """Raise InputError for a run that is done, and was fitted with other settings than those of this command."""
    if not (run / "run.yaml").exists():
        return
    record = read_record(run)
    before, asked = record.get("settings") or {}, plain_settings(settings)
    # Where nobody asked for an encoder there is none; the record of a finished run says so.
    before, asked = ({**one, "encoder": one.get("encoder", NONE) or NONE} for one in (before, asked))
    left = {*NOT_COMPARED}
    left |= {"method"} if settings.by_items else set()
    left |= set() if settings.encoder in (None, AUTO, NONE) else {*OF_PICTURES}
    left |= {"n_clusters"} if settings.n_clusters == "auto" else set()
    left |= {"calibrate"} if settings.judged else set()
    left |= {"init"} if same_beginning(record, settings.init) else set()
    left |= {"encoder"} if same_encoder(record, settings.encoder) else set()
    left |= {"judged"} if same_judgements(record, settings.judged) else set()
    for name in asked:
        if name not in left and name in before and before[name] != asked[name]:
            raise InputError(
                f"{run} was begun with {name} = {before[name]}, not {asked[name]}: give the same settings, or another "
                "folder with -o."
            )


def same_beginning(record: Mapping[str, Any], init: str | None) -> bool:
    """Whether the run of --init is that of a record, wherever it lies; an older record does not know. InputError."""
    digest = (record.get("beginning") or {}).get("sha256")
    if init is None or digest is None:
        return False
    if not os.path.lexists(init) and record["beginning"].get("path") == absolute_path(init):
        return True  # a run that is not done knows its net, and kept it
    if digest != weights_digest(load_model(Path(init)).net):
        raise InputError(f"{init} is not the run that those runs were begun with: give another folder with -o.")
    return True


def same_encoder(record: Mapping[str, Any], encoder: str | None) -> bool:
    """Whether the folder of --encoder is that of a record, however both were typed."""
    spec = (record.get("source") or {}).get("spec") or {}
    origin = str((spec.get("encoding") or {}).get("origin") or "")
    folder = os.path.expanduser(encoder or "")
    return os.path.isdir(folder) and os.path.isdir(origin) and os.path.samefile(folder, origin)


def same_judgements(record: Mapping[str, Any], judged: str | None) -> bool:
    """Whether the file of --judged is that of a record, wherever it lies. Raises InputError for another content."""
    digest = (record.get("labels_used") or {}).get("sha256")
    if judged is None or digest is None or not Path(judged).is_file():
        return False
    if digest != hashlib.sha256(Path(judged).read_bytes()).hexdigest():
        raise InputError(f"{judged} is not what those runs were taught with: give another folder with -o.")
    return True


def first_begun(runs: Sequence[Path]) -> dict[str, Any] | None:
    """The record of the first run that has begun, None where none has.

    Raises InputError where runs are over other data than it, or by another method.
    """
    begun = [run for run in runs if (run / "run.yaml").exists()]
    records = [read_record(run) for run in begun]
    sources = [record.get("source") or {} for record in records]
    methods = [(record.get("settings") or {}).get("method") for record in records]
    for run, source, method in zip(begun, sources, methods, strict=True):
        if not same_items(sources[0], source):
            raise InputError(f"{begun[0]} and {run} are over different data: fit them again in a new folder.")
        if method != methods[0]:
            raise InputError(
                f"{begun[0]} is grouped by {methods[0]}, and {run} by {method}: fit them again in a new folder."
            )
    return records[0] if records else None


def finish(request: FitRequest, out: Path, runs: Sequence[Path], failed: Mapping[str, str]) -> None:
    """The table, the record and the page of finished runs, and the answer on the screen.

    failed: of the runs that are left out, each one's name and why it failed.
    """
    first_begun(runs)  # rows of other data may have the same ids
    tables, names = [read_result(run / "result.parquet") for run in runs], [run.name for run in runs]
    found, metrics = gather(names, tables, trust_runs(runs, names)), dict[str, Any]()
    record = read_record(runs[0])
    skipped = [Skipped(item["id"], item["reason"]) for item in record.get("source", {}).get("skipped", [])]
    notes: list[str] = []
    labels = usable_labels(request, list(found.ensemble.ids), skipped, notes, runs[0])
    if labels is not None:
        codes = labels.codes.copy()
        codes[taught_by(record, len(codes))] = -1  # as of each run: what was judged may not check what it has taught
        heads = {n: evaluate(codes, p.numpy(), class_names=labels.names) for n, p in found.ensemble.heads.items()}
        metrics["heads"] = {name: {key: head[key] for key in METRICS} for name, head in heads.items()}
        metrics["metrics"] = metrics["heads"][next(iter(heads))]
        metrics["labels"] = about(replace(labels, codes=codes), tables[found.medoid].labels)
    answer = found.write(out, judgements_in(record), **metrics, **({"failed": dict(failed)} if failed else {}))
    notes += [f"{name} is left out, for its run failed: {why}" for name, why in failed.items()]
    comparison, page = compared(runs), out / PAGE
    ours = not page.exists() or is_page(page)
    if ours:
        write_page(check_page(page), render_comparison(comparison))
    if request.as_json:
        print_object({**summary_of(out, runs[found.medoid], comparison), **answer, "notes": notes})
        return
    print_comparison(comparison)
    if ours:
        print(f"\nPage: {page}")
    for note in notes:
        print(f"Note: {note}")
    print(f"\nThe answer: {out / answer['medoid']}, the medoid; {out / TABLE} has its groups, each with the mean")
    print("probability that all runs give it (ensemble), and the mean of all probabilities (mean).")
    request.speech.suggest(to_review(out / answer["medoid"]))


def summary_of(out: Path, medoid: Path, comparison: Comparison) -> dict[str, Any]:
    """What --json says of any run: of the medoid, whose groups are the answer; `seconds` are those of all runs."""
    record = read_record(medoid)
    seconds = round(sum(row.seconds or 0.0 for row in comparison.rows), 1)
    skipped = (record.get("source") or {}).get("skipped") or []
    said = {"calibrated": record.get("calibrated"), "skipped_items": skipped, "warnings": record.get("warnings") or []}
    return {**run_summary(medoid, record), "run": str(out), "seconds": seconds, **said}
