"""`coterie predict`: the result table of new items."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.cli.ood import compare_with_fitted, wanted_scores
from coterie.cli.output import check_beside, check_ending, print_object, print_skipped, skipped_items
from coterie.cli.recalibrate import map_of, remap_by
from coterie.cli.reviewed import judged_in, taught
from coterie.cli.speech import Speech
from coterie.common.outputs import check_folder, check_output, printable, remove_parts, write_atomically
from coterie.common.words import counted, limit
from coterie.data.judged import table_content
from coterie.data.spaces import Spaces
from coterie.encoders import open_items
from coterie.prediction.model import load_model
from coterie.prediction.results import is_ours, write_result
from coterie.records.recalibration import read_recalibration
from coterie.records.run import check_finished
from coterie.report.judged import how_far_off
from coterie.review.before import before_review
from coterie.scaling.engines import Engine, absolute, engine_called, here
from coterie.scaling.predicting import Asked, predict_parts
from coterie.training.device import accelerator_for
from coterie.training.interrupt import Stopped
from coterie.types import Assignments, InputError, Skipped


@dataclass(frozen=True)
class PredictRequest:
    """What the user asked `predict` for."""

    run: Path
    source: str | Spaces
    out: Path
    device: str = "auto"
    embedding: bool = False
    ood_score: str | None = None
    recalibrated: bool = False
    engine: str = "local"
    workers: int | None = None
    as_json: bool = False
    speech: Speech = field(default_factory=Speech)

    @property
    def in_parts(self) -> bool:
        """Whether a folder of parts is wanted, and no table."""
        return not self.out.suffix


@dataclass
class Predicted:
    """The numbers of a written prediction, for the answer."""

    data: str
    n: int
    k: int
    calibrated: bool
    confidence: float  # mean
    labels_used: int
    foreign: dict[str, Any] | None
    skipped: list[Skipped]
    notes: list[str]


def predict_source(request: PredictRequest) -> None:
    """Write the result table of new items, or its parts, and say what it holds. Raises InputError."""
    run, begun = request.run, time.monotonic()
    engine = engine_called(request.engine, request.workers)
    check_beside(request.out, paths_of(request.source))
    if request.in_parts:
        check_folder(request.out, [*paths_of(request.source), run])
        table = Path(os.path.realpath(request.out))
    else:
        table = check_table(request.out, run, request.source)
        check_plain(request, engine)
    check_finished(run)
    if request.recalibrated:
        map_of(run)  # a run without one is refused before its items are read
    whole = engine is here and not request.in_parts
    done = predict_whole(request, table) if whole else predict_parted(request, table, engine)
    skipped = skipped_items(done.skipped)
    notes = [*about_the_table(request, done.foreign), *done.notes]
    notes += [f"{note}." for note in (*taught(run), *before_review(run, "new items are sorted into"))]
    answer = {
        "run": str(run),
        "data": done.data,
        "n": done.n,
        "k": done.k,
        "seconds": round(time.monotonic() - begun, 1),
        "calibrated": done.calibrated,
        "labels_used": done.labels_used,
        "skipped": len(skipped),
        "skipped_items": skipped,
        "table": str(request.out),
        "ood_score": done.foreign,
        "judged_before": None if request.recalibrated else how_far_off(read_recalibration(run)),
        "notes": notes,
    }
    if request.as_json:
        print_object(answer)
    else:
        print_answer(answer, request, done.confidence)


def about_the_table(request: PredictRequest, foreign: Mapping[str, Any] | None) -> list[str]:
    """What the table does not hold, and why."""
    notes = []
    if foreign is None and request.ood_score is None:
        notes.append("the run keeps no sample of its items, so there is no ood_score: fit it again to have one.")
    if request.out.suffix == ".csv":
        notes.append("a .csv table has no probabilities; one that ends in .parquet has.")
    return notes


def predict_whole(request: PredictRequest, table: Path) -> Predicted:
    """The table in one piece."""
    remove_parts(table.parent, table.name)
    model = load_model(request.run, accelerator_for(request.device).device)
    scores = wanted_scores(model, request.ood_score)
    with request.speech.bar() as bar:
        opened = open_items(request.source, like=model.spec, device=request.device, progress=bar.reading)
        bar.items = len(opened.items)
        found = model.predict(opened, embedding=request.embedding, ood_scores=scores, progress=bar.predicted)
    labels_used = judged_in(request.run)
    if request.recalibrated:
        found, labels_used = remap_by(request.run, found)
    if table.suffix == ".csv":
        write_atomically(table, table_content(table, short(found)))
    else:
        write_result(table, found, labels_used=labels_used)
    confidence = float(found.probabilities.max(1).values.mean())
    foreign = compare_with_fitted(model, scores, next(iter(found.ood_scores.values()), None))
    about = (model.calibrated, confidence, labels_used, foreign, opened.skipped, opened.notes)
    return Predicted(opened.name, len(opened.items), model.k, *about)


def short(found: Assignments) -> dict[str, Any]:
    """The columns of a .csv: what has one value for an item."""
    confidence, label = found.probabilities.max(1)
    columns: dict[str, Any] = {
        "id": list(map(printable, found.ids)),
        "label": label.numpy(),
        "confidence": confidence.numpy(),
    }
    if found.ood_scores:
        columns["ood_score"] = next(iter(found.ood_scores.values())).numpy()
    return columns


def predict_parted(request: PredictRequest, table: Path, engine: Engine) -> Predicted:
    """The parts of the table, by any engine, and the table that they make unless parts are what was asked for."""
    import torch

    run = Path(os.path.abspath(request.run))
    folder = table if request.in_parts else table.with_name(f".{table.name}.parts")
    places = [absolute(path) for path in paths_of(request.source)]
    source = Spaces(places) if isinstance(request.source, Spaces) else places[0]
    scores = wanted_scores(load_model(run), request.ood_score)
    after = functools.partial(remap_by, run) if request.recalibrated else None
    asked = Asked(run, source, request.device, request.embedding, scores, after, judged_in(run))
    try:
        with request.speech.bar() as bar:

            def watch(done: int, total: int) -> None:
                bar.reading("predicting", done, total)

            made = predict_parts(asked, folder, engine, own=not request.in_parts, progress=watch)
    except KeyboardInterrupt as stopped:
        if not any(folder.glob("part-*.parquet")):
            raise
        text = f"Stopped. What was predicted is kept in {folder}: the same command goes on."
        raise Stopped(text, getattr(stopped, "number", signal.SIGINT)) from None
    confidence = float(made.parts.column("confidence").mean())
    known = torch.from_numpy(made.parts.column("ood_score")) if scores else None
    labels_used, foreign = made.parts.labels_used(), compare_with_fitted(made.model, scores, known)
    if not request.in_parts:
        made.parts.merge(table)
    about = (made.model.calibrated, confidence, labels_used, foreign, made.skipped, made.notes)
    return Predicted(made.name, made.rows, made.model.k, *about)


def print_answer(answer: dict[str, Any], request: PredictRequest, confidence: float) -> None:
    """Print the answer for a person."""
    foreign = answer["ood_score"]
    where = f"Parts of the table: {request.out}" if request.in_parts else f"Table: {request.out}"
    print(
        f"{counted(answer['n'], 'item')} assigned in {answer['seconds']} s, mean confidence {limit(confidence, 2)}"
        f"{'' if answer['calibrated'] or request.recalibrated else ' (not calibrated)'}. {where}"
    )
    if request.recalibrated:
        print(f"Labels were used: the confidences stand on {counted(answer['labels_used'], 'judgement')}.")
    elif answer["judged_before"]:
        print(f"{answer['judged_before']} These confidences are not corrected: --recalibrated does it.")
    if foreign is not None:
        print(foreign_sentence(foreign))
    print_skipped(answer["skipped_items"])
    for note in answer["notes"]:
        print(f"Note: {note}")
    if foreign is not None and foreign["below"] > 0.1 * answer["n"] and isinstance(request.source, str):
        purpose = "how well each score tells these items from the run's own"
        request.speech.suggest((("evaluate", request.run, "--ood", request.source), purpose))


def foreign_sentence(foreign: Mapping[str, Any]) -> str:
    """How many of the items look foreign, and what to do with them."""
    below = foreign["below"]
    have = f"{below:,} of them have" if below > 1 else "1 of them has" if below else "None of them has"
    advice = ": look at those before you believe their group" if below > 1 else ""
    advice = ": look at it before you believe its group" if below == 1 else advice
    return (
        f"{have} an ood_score ({foreign['score']}) below {limit(foreign['threshold'])}, "
        f"where only 5 % of the run's own items lie{advice}."
    )


def check_table(out: Path, run: Path, source: str | Spaces) -> Path:
    """The path of the result table. Raises InputError, before any work, where it could not or may not be written."""
    check_ending(out, ".parquet", ".csv")
    # A .csv file has no place for a mark, so that nobody can say who wrote it.
    return check_output(out, [*paths_of(source), run], ours=None if out.suffix == ".csv" else is_ours)


def check_plain(request: PredictRequest, engine: Engine) -> None:
    """Raise InputError for a .csv file of what only .parquet holds."""
    for option, asked in (("--embedding", request.embedding), ("--engine", engine is not here)):
        if request.out.suffix == ".csv" and asked:
            raise InputError(f"{option} writes no .csv file: give a name that ends in .parquet with -o.")


def paths_of(source: str | Spaces) -> list[str]:
    """The paths of the source."""
    return source.paths if isinstance(source, Spaces) else [source]
