"""START HERE: one run, from a source to a result table and a report.

source -> data -> views -> network + method (stages) -> prediction -> result table -> evaluation (labels only here) ->
report. `_run` and `_fit` take these steps; the folders of the package are in the same order. `preparing` holds
what comes before training, `stages` the training itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coterie.calibration.post_hoc import CARD as calibration_card
from coterie.common.isolation import in_turn
from coterie.common.outputs import write_atomically
from coterie.common.shortage import shortage
from coterie.data.outliers import usual_rows
from coterie.prediction.bank import make_bank
from coterie.prediction.model import Model
from coterie.prediction.results import read_result, write_result
from coterie.records import judgements_in, read_record, recalibration
from coterie.report import comparable, gallery_rows, map_rows, project
from coterie.review.log import was_reviewed
from coterie.running.forecast import WORTH_SAYING, forecast
from coterie.running.prepared import Prepared, Watch
from coterie.running.preparing import check_review, prepare
from coterie.running.stages import advice_of, calibrate, check_balance, check_kept, check_result, count_groups, train
from coterie.training.distributed import wait_for_all
from coterie.training.history import History
from coterie.training.interrupt import heed_signals
from coterie.training.plan import RunSettings
from coterie.training.runfolder import Resume
from coterie.types import Assignments, CoterieError, InputError, Source

__all__ = ["RunResult", "RunSettings", "Watch", "run"]  # for others, such as experiments that follow a run

MEASURED = ("metrics.json", "ood.json", recalibration.FILE, recalibration.TABLE)  # of one result


@dataclass
class RunResult:
    """A finished run: the model, its assignments, its history and its record (what `run.yaml` says)."""

    model: Model
    assignments: Assignments
    history: History
    record: dict[str, Any]
    source: Source


@in_turn
def run(
    source: Any,
    settings: RunSettings,
    out: Path | None = None,
    *,
    resume: Resume = False,
    command: str = "",
    watch: Watch | None = None,
    cache: Path | None = None,
) -> RunResult:
    """Fit `source`, keep everything in the folder `out` (None: in memory). Raises InputError and RunFailed.

    resume: go on with the run in `out`; "unfinished" raises Done for one that is done, and changes nothing of it.
    cache: without `out`, where decoded pictures and embeddings are kept for further runs over the same source.
    """
    watch = watch or Watch()
    with heed_signals():
        prepared = prepare(source, settings, out, resume=resume, watch=watch, cache=cache)
        try:
            return _run(prepared, command, watch)
        finally:
            prepared.folder.release()


def _run(prepared: Prepared, command: str, watch: Watch) -> RunResult:
    """The run from its first record to its last. How it ended stands in the record, whatever that was."""
    watch.ready(prepared.source)
    folder, plan = prepared.folder, prepared.plan
    forget_calibration(prepared)
    folder.stands = folder.is_done  # resumed once more: stopped or failed, it is what it was
    folder.update(**prepared.record(command))
    if prepared.settings.init is not None:
        folder.keep_start(Path(prepared.settings.init))
    watch.begun()
    for note in (*plan.notes, *prepared.source.warnings):
        watch.say(note)
    begun = time.monotonic()
    try:
        if watch.timed and (expected := forecast(prepared, short=False)) and expected.seconds >= WORTH_SAYING:
            watch.say(str(expected))
        model, assignments = _fit(prepared, watch)
        seconds = round(time.monotonic() - begun + prepared.seconds_before, 1)
        if folder.stands:  # and may have been reviewed meanwhile
            check_review(folder.path, calibrates=plan.calibration is not None)
        folder.stands = False
        folder.update()  # from here on answers and record may be of two runs
        if folder.path is not None and prepared.is_main:
            _write(folder.path, model, prepared, assignments, watch)
    except KeyboardInterrupt:
        folder.update(status="stopped", warnings=prepared.warnings)
        raise
    except Exception as error:
        _record_failure(prepared, error)
        raise
    if folder.path is not None and prepared.is_main:
        (folder.path / "traceback.txt").unlink(missing_ok=True)  # of an attempt before
    folder.update(status="done", n_clusters=model.k, seconds=seconds, notes=plan.notes, warnings=prepared.warnings)
    return RunResult(model, assignments, prepared.history, folder.record, prepared.source)


def _fit(prepared: Prepared, watch: Watch) -> tuple[Model, Assignments]:
    """The trained and calibrated model, with the bank of its features, and its checked answers with embeddings."""
    settings, plan, source = prepared.settings, prepared.plan, prepared.source
    net = train(prepared, watch)
    k = settings.k or count_groups(net, prepared, watch)
    model = Model(net, plan.method, k, prepared.backbone.name, source.items.spec, prepared.family)
    if plan.calibration is not None:
        calibrate(model, prepared, watch)
    watch.say("predicting all items")
    assignments = model.predict(source, embedding=True, progress=watch.predicted)
    check_result(assignments, k, prepared.warnings, advice_of(prepared), prepared.history.records)
    check_balance(assignments, model, prepared)
    prepared.warnings[:] = dict.fromkeys(prepared.warnings)  # a resumed run had some of them before
    check_kept(model, source, assignments)
    assert assignments.embedding is not None
    groups = assignments.probabilities.argmax(1)
    usual, rows = None, assignments.embedding
    if len(source.outliers):
        usual = torch.from_numpy(usual_rows(source))
        rows, groups = rows[usual], groups[usual]
    model.bank = make_bank(rows, groups, k, settings.seed, usual)
    return model, assignments


def _write(out: Path, model: Model, prepared: Prepared, assignments: Assignments, watch: Watch) -> None:
    """The files of a run that has ended well; what was measured of another result before is removed."""
    # The log of a review knows its table by every byte, and another version or machine writes others.
    keep = was_reviewed(out) and os.path.lexists(out / "result.parquet")
    if keep:
        watch.say("the result was reviewed: result.parquet stays as it is")
    elif gone := forget_measured(out, assignments):
        watch.say(f"the result is another one than before: what was measured of that is removed ({gone})")
    kept = {"store_embedding": prepared.settings.store_embedding, "keep_result": keep}
    used = judgements_in(prepared.folder.record)
    write_run_files(out, model, prepared.source, assignments, **kept, labels_used=used)


def _record_failure(prepared: Prepared, error: Exception) -> None:
    """Let the record say why the run failed and what to try next; an unforeseen error leaves its traceback as well."""
    known = str(error) if isinstance(error, CoterieError) else shortage(error)
    reason = getattr(error, "reason", known or repr(error))
    if known is None:
        keep_traceback(prepared.folder.file("traceback.txt") if prepared.is_main else None, error)
    failure = {"reason": reason, "advice": getattr(error, "advice", "Go on with --resume.")}
    prepared.folder.update(status="failed", failure=failure)


def forget_calibration(prepared: Prepared) -> None:
    """Remove the checkpoint of a calibration that the run has given up, now or before.

    Another one, of other settings or without the same judgements, would go on from it.
    """
    folder, name = prepared.folder, calibration_card.stage
    if prepared.is_main and folder.path is not None:
        kept = folder.path / "checkpoints" / f"{name}.safetensors"
        given_up = kept.exists() and (
            prepared.plan.calibration is None or not read_record(folder.path).get("calibration")
        )
        if given_up:
            kept.unlink()
            prepared.history.keep(name, 0)
            prepared.warnings[:] = [text for text in prepared.warnings if f" of stage {name} " not in text]
    wait_for_all()


def keep_traceback(path: Path | None, error: Exception) -> None:
    """Write the traceback of an unforeseen error to the run folder, and add its path to the error."""
    if path is not None:
        with contextlib.suppress(InputError):
            write_atomically(path, "".join(traceback.format_exception(error)))
            error.add_note(f"{path} says where")


def forget_measured(out: Path, assignments: Assignments) -> str:
    """Remove what was measured of a result that these assignments replace; returns the names of the files.

    A run that is calibrated after its end has new confidences, and numbers of the old ones would pass for theirs.
    """
    there = [name for name in MEASURED if os.path.lexists(out / name)]
    if not there:
        return ""
    with contextlib.suppress(InputError):  # damaged, or of another version: replaced as well
        before = read_result(out / "result.parquet")
        confidence, labels = (t.numpy() for t in assignments.probabilities.max(1))
        if np.array_equal(before.labels, labels) and np.array_equal(before.confidence, confidence):
            return ""
    for name in there:
        (out / name).unlink()
    return ", ".join(there)


def write_run_files(
    out: Path,
    model: Model,
    source: Source,
    assignments: Assignments,
    *,
    store_embedding: bool,
    keep_result: bool,
    labels_used: int = 0,
) -> None:
    """The model, the result table, and what the report shows beside them: a few images and a map of the items."""
    model.save(out / "model")
    if not keep_result:
        kept = assignments if store_embedding else replace(assignments, embedding=None)
        write_result(out / "result.parquet", kept, labels_used=labels_used)
    confidence, labels = (t.numpy() for t in assignments.probabilities.max(1))
    pictures = source.items if source.items.spec.kind == "images" else source.pictures
    if pictures is not None:
        shown = gallery_rows(labels, confidence)
        images = pictures.take(torch.from_numpy(shown.rows).long()).permute(0, 2, 3, 1).numpy()
        ids = np.array([str(assignments.ids[row]) for row in shown.rows.tolist()])
        _save_npz(out / "gallery.npz", rows=shown.rows, cluster=shown.cluster, kind=shown.kind, images=images, ids=ids)
    assert assignments.embedding is not None
    rows = map_rows(len(labels))
    z = comparable(assignments.embedding[torch.from_numpy(rows)].numpy())
    _save_npz(out / "map.npz", rows=rows, xy=project(z))


def _save_npz(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomically(path, buffer.getvalue())
