"""What a command prints on standard error beside errors: its progress, and which commands are useful next."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.cli.progress import StageBar


NextStep = tuple[tuple[object, ...], str]  # a command's words after `coterie`, and what it is for


def to_review(run: Path) -> NextStep:
    """The step after most others: a look at the groups."""
    return ("review", run), "look through the groups, name and correct them"


@dataclass(frozen=True)
class Speech:
    """How much is printed: nothing (-q), the usual, or more (-v). Raises InputError for both at once."""

    quiet: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise InputError("-q asks for less and -v for more: leave one of them out.")

    def bar(self) -> StageBar:
        """A progress bar on standard error; rich heeds NO_COLOR, and shows no colours where nobody watches."""
        from rich.console import Console

        from coterie.cli.progress import StageBar

        return StageBar(Console(stderr=True, quiet=self.quiet), quiet=self.quiet, verbose=self.verbose)

    def suggest(self, *steps: NextStep) -> None:
        """Name commands that are useful next."""
        if self.quiet:
            return
        sys.stdout.flush()  # in a terminal both streams are one text
        commands = [shlex.join(["coterie", *map(_typed, words)]) for words, _ in steps]
        width = max(map(len, commands), default=0)
        for number, (command, (_, purpose)) in enumerate(zip(commands, steps, strict=True)):
            print(f"{'' if number else 'Next:':<6}{command:<{width}}  # {purpose}", file=sys.stderr)


def _typed(word: object) -> str:
    """A word of a command as it is to be typed: a path that begins with a dash would be an option."""
    return f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
