"""Whether a run was reviewed, and what to say of an answer that is about its groups before that."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from coterie.common.outputs import typed
from coterie.records.review import read_review
from coterie.review.log import was_reviewed
from coterie.types import InputError


def is_reviewed(run: Path) -> bool:
    """Whether somebody decided something about a run, as far as its review can be read."""
    with suppress(InputError):  # whoever reads the review itself hears what is wrong with it
        review = read_review(run)
        return was_reviewed(run) or (review is not None and review.events > 0)
    return True


def before_review(run: Path, answer: str) -> list[str]:
    """The note, if somebody decided something; `answer`: what is about the groups before, with its verb.

    It has no full stop, for it ends with a command.
    """
    if not is_reviewed(run):
        return []
    return [
        f"The run was reviewed, and {answer} its groups before that. The reviewed ones: coterie export {typed(run)} "
        "--to csv -o reviewed.csv"
    ]
