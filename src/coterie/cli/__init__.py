"""The command line: what is printed where, and which exit code a command ends with. `commands` has the options.

Standard output carries results only (with --json one object), everything else goes to standard error. Exit code 0:
done; 1: the run failed; 2: the input is wrong.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import typer

from coterie.cli.commands import app
from coterie.cli.console import OutputLost, Results, consoles, forget
from coterie.cli.failing import debugging, sentence, unforeseen
from coterie.training.interrupt import heed_signals

UsageError: Any = typer.BadParameter.__base__  # typer carries click within itself from some version on


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the command `coterie`; `arguments` None means those of the command line."""
    given = sys.argv[1:] if arguments is None else arguments
    with consoles() as out, heed_signals(pass_on=False):
        try:
            return _main(given, out)
        except OutputLost as lost:
            forget(out.stream)
            if isinstance(lost.__cause__, BrokenPipeError):
                return 1  # whoever read standard output has gone (`coterie methods | head`)
            print(f"coterie: Standard output cannot be written: {lost.__cause__}.", file=sys.stderr)
            return 1


def _ended(text: str) -> str:
    """Click's message with a full stop: some of its sentences end without one."""
    return text if text.endswith(("?", "!")) else f"{text.rstrip('.')}."


def _check_empty(given: list[str]) -> None:
    """Raise UsageError for an option with an empty value: as a path it would be the working directory."""
    for option, value in itertools.pairwise(given):
        if option.startswith("-") and value == "":
            raise UsageError(f"{option} has an empty value: is a variable of the shell not set?")
    for option in given:
        if option.startswith("--") and option.endswith("=") and option.count("=") == 1:
            raise UsageError(f"{option[:-1]} has an empty value: is a variable of the shell not set?")


def _main(given: list[str], out: Results) -> int:
    try:
        _check_empty(given)
        code = app(given or ["--help"], prog_name="coterie", standalone_mode=False)
        out.flush()
        return int(code or 0)
    except UsageError as error:
        print(f"coterie: {_ended(error.format_message())} See coterie --help.", file=sys.stderr)
        return 2
    except typer.Abort:
        return 130
    except KeyboardInterrupt as error:
        return 128 + getattr(error, "number", 2)
    except OutputLost:
        raise
    except Exception as error:
        if debugging():
            raise
        text, code = sentence(error) or (unforeseen(error), 1)
        print(f"coterie: {' '.join(text.split())}", file=sys.stderr)
        return code
