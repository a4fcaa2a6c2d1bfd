"""What a command says of a run in which people had a part: by a review after it, or by judgements before it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from coterie.records import judgements_in, read_record
from coterie.report.headline import labels_used
from coterie.review.before import is_reviewed


def judged_in(run: Path) -> int:
    """How many judgements took part in a run; 0 for a saved model without a record."""
    return judgements_in(read_record(run)) if os.path.lexists(run / "run.yaml") else 0


def taught(run: Path) -> list[str]:
    """The note, if judgements took part in the run itself (`fit --judged`, merged groups)."""
    said = labels_used(read_record(run)) if judged_in(run) else None
    return [] if said is None else [f"{said} in this run"]


def all_before_review(runs: Iterable[tuple[str, Path]]) -> list[str]:
    """The note about several runs, by name and folder, of those among them that were reviewed."""
    found = [name for name, path in runs if is_reviewed(path)]
    if not found:
        return []
    were, their = ("was", "its") if len(found) == 1 else ("were", "their")
    return [
        f"{', '.join(found)} {were} reviewed, and these numbers are about {their} groups before that. The reviewed "
        "ones: coterie export RUN --to csv -o reviewed.csv"
    ]
