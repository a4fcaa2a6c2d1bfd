"""`coterie predict`: the result table of new items."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.console import Console

from coterie.cli.fit import LISTED
from coterie.cli.ood import compare_with_fitted, wanted_scores
from coterie.cli.output import print_object
from coterie.cli.progress import StageBar
from coterie.cli.recalibrate import remap_by
from coterie.data.spaces import Spaces
from coterie.encoders import open_items
from coterie.outputs import check_output, remove_parts
from coterie.prediction.model import load_model
from coterie.prediction.results import is_ours, write_result
from coterie.records import read_record
from coterie.training.device import accelerator_for
from coterie.types import InputError


def predict_source(
    run: Path,
    source: str | Spaces,
    out: Path,
    device: str,
    *,
    embedding: bool,
    ood_score: str | None,
    recalibrated: bool = False,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the result table of new items."""
    table = check_table(out, run, source)
    check_finished(run)
    remove_parts(table.parent, table.name)
    begun = time.monotonic()
    model = load_model(run, accelerator_for(device).device)
    with StageBar(Console(stderr=True, quiet=quiet), quiet=quiet) as bar:
        opened = open_items(source, like=model.spec, device=device, progress=bar.reading)
        bar.items = len(opened.items)
        scores = wanted_scores(model, ood_score)
        assignments = model.predict(opened, embedding=embedding, ood_scores=scores, progress=bar.predicted)
    labels_used = 0
    if recalibrated:
        assignments, labels_used = remap_by(run, assignments)
    write_result(table, assignments, labels_used=labels_used)
    foreign = compare_with_fitted(model, assignments)
    seconds = round(time.monotonic() - begun, 1)
    if as_json:
        skipped = [{"id": item.id, "reason": item.reason} for item in opened.skipped]
        print_object(
            {
                "run": str(run),
                "data": opened.name,
                "n": len(opened.items),
                "k": model.k,
                "seconds": seconds,
                "calibrated": model.calibrated,
                "labels_used": labels_used,
                "skipped": len(skipped),
                "skipped_items": skipped,
                "table": str(out),
                "ood_score": foreign,
            }
        )
        return
    confidence = assignments.probabilities.max(1).values
    print(
        f"{len(opened.items):,} items assigned in {seconds} s, mean confidence "
        f"{confidence.mean():.2f}{'' if model.calibrated or recalibrated else ' (not calibrated)'}. Table: {out}"
    )
    if recalibrated:
        print(f"Labels were used: the confidences are by the map of {labels_used} judged items.")
    if foreign is not None:
        print(
            f"{foreign['below']:,} of them have an ood_score ({foreign['score']}) below {foreign['threshold']:.3f}, "
            "where only 5 % of the run's own items lie: look at those before you believe their group."
        )
    elif ood_score is None:
        print("Note: the run keeps no sample of its items, so there is no ood_score: fit it again to have one.")
    if opened.skipped:
        print(f"{len(opened.skipped)} unreadable images were left out:")
    for item in opened.skipped[:LISTED]:
        print(f"  {item.id}: {item.reason}")
    for note in opened.notes:
        print(f"Note: {note}")


def check_table(out: Path, run: Path, source: str | Spaces) -> Path:
    """Where the result table goes. Raises InputError for one that could not or may not be written in the end."""
    if out.suffix != ".parquet":
        raise InputError(f"-o {out} must end in .parquet.")
    return check_output(out, [*(source.paths if isinstance(source, Spaces) else [source]), run], ours=is_ours)


def check_finished(run: Path) -> None:
    """Raise InputError for a run folder that has no model yet, and say how far it came, or whose record is damaged."""
    # A model that was saved without a run has none.
    status = read_record(run).get("status") if os.path.lexists(run / "run.yaml") else None
    if status is not None and not (run / "model").is_dir():
        raise InputError(f"The run in {run} has no model, its status is {status!r}: finish it with fit --resume.")
