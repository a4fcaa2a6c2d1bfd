"""What a command says of a reviewed run, where its answer is about the groups that the run had before the review."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from coterie.records.review import read_review
from coterie.review.log import was_reviewed
from coterie.types import InputError


def before_review(run: Path, answer: str) -> list[str]:
    """The note, if somebody decided something; `answer`: what is about the groups before, with its verb."""
    with suppress(InputError):  # whoever reads the review itself hears what is wrong with it
        review = read_review(run)
        if not was_reviewed(run) and (review is None or not review.events):
            return []
    return [
        f"The run was reviewed, and {answer} its groups before that. The reviewed ones: coterie export {run} --to csv "
        "-o reviewed.csv"
    ]
