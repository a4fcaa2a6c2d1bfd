"""`coterie predict`: the result table of new items."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.cli.ood import compare_with_fitted, wanted_scores
from coterie.cli.output import check_ending, print_object, print_skipped, skipped_items
from coterie.cli.recalibrate import remap_by
from coterie.cli.speech import Speech
from coterie.data.spaces import Spaces
from coterie.encoders import open_items
from coterie.outputs import check_output, remove_parts
from coterie.prediction.model import load_model
from coterie.prediction.results import is_ours, write_result
from coterie.records import read_record
from coterie.training.device import accelerator_for
from coterie.types import InputError


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
    as_json: bool = False
    speech: Speech = field(default_factory=Speech)


def predict_source(request: PredictRequest) -> None:
    """Write the result table of new items, and say what it holds. Raises InputError."""
    run, begun = request.run, time.monotonic()
    table = check_table(request.out, run, request.source)
    check_finished(run)
    remove_parts(table.parent, table.name)
    model = load_model(run, accelerator_for(request.device).device)
    with request.speech.bar() as bar:
        opened = open_items(request.source, like=model.spec, device=request.device, progress=bar.reading)
        bar.items = len(opened.items)
        scores = wanted_scores(model, request.ood_score)
        assignments = model.predict(opened, embedding=request.embedding, ood_scores=scores, progress=bar.predicted)
    labels_used = 0
    if request.recalibrated:
        assignments, labels_used = remap_by(run, assignments)
    write_result(table, assignments, labels_used=labels_used)
    skipped = skipped_items(opened.skipped)
    answer = {
        "run": str(run),
        "data": opened.name,
        "n": len(opened.items),
        "k": model.k,
        "seconds": round(time.monotonic() - begun, 1),
        "calibrated": model.calibrated,
        "labels_used": labels_used,
        "skipped": len(skipped),
        "skipped_items": skipped,
        "table": str(request.out),
        "ood_score": compare_with_fitted(model, assignments),
    }
    if request.as_json:
        print_object(answer)
    else:
        print_answer(answer, request, float(assignments.probabilities.max(1).values.mean()), opened.notes)


def print_answer(answer: dict[str, Any], request: PredictRequest, confidence: float, notes: Sequence[str]) -> None:
    """The same for a person."""
    foreign = answer["ood_score"]
    print(
        f"{answer['n']:,} items assigned in {answer['seconds']} s, mean confidence {confidence:.2f}"
        f"{'' if answer['calibrated'] or request.recalibrated else ' (not calibrated)'}. Table: {request.out}"
    )
    if request.recalibrated:
        print(f"Labels were used: the confidences are by the map of {answer['labels_used']} judged items.")
    if foreign is not None:
        print(
            f"{foreign['below']:,} of them have an ood_score ({foreign['score']}) below {foreign['threshold']:.3f}, "
            "where only 5 % of the run's own items lie: look at those before you believe their group."
        )
    elif request.ood_score is None:
        print("Note: the run keeps no sample of its items, so there is no ood_score: fit it again to have one.")
    print_skipped("unreadable images were left out", answer["skipped_items"])
    for note in notes:
        print(f"Note: {note}")
    if foreign is not None and foreign["below"] > 0.1 * answer["n"] and isinstance(request.source, str):
        purpose = "how well each score tells these items from the run's own"
        request.speech.suggest((("evaluate", request.run, "--ood", request.source), purpose))


def check_table(out: Path, run: Path, source: str | Spaces) -> Path:
    """Where the result table goes. Raises InputError for one that could not or may not be written in the end."""
    check_ending(out, ".parquet")
    return check_output(out, [*(source.paths if isinstance(source, Spaces) else [source]), run], ours=is_ours)


def check_finished(run: Path) -> None:
    """Raise InputError for a run folder that has no model yet, and say how far it came, or whose record is damaged."""
    # A model that was saved without a run has none.
    status = read_record(run).get("status") if os.path.lexists(run / "run.yaml") else None
    if status is not None and not (run / "model").is_dir():
        raise InputError(f"The run in {run} has no model, its status is {status!r}: finish it with fit --resume.")
