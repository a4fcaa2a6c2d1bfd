"""The command line: what is printed where, and which exit code a command ends with. `commands` has the options.

Standard output carries results only (with --json one object), everything else goes to standard error. Exit code 0:
done; 1: the run failed; 2: the input is wrong.
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
import re
import signal
import sys
from typing import Any, get_args, get_type_hints

import typer

from coterie.cli.commands import app
from coterie.cli.console import OutputLost, Results, consoles, forget
from coterie.cli.failing import debugging, sentence, unforeseen
from coterie.common.callers import as_written
from coterie.training.interrupt import asked, heed_signals

NUMBERS = {  # Python's own int and float take 1_0, too, and digits of other scripts
    int: (re.compile(r"[-+]?[0-9]+"), "a whole number"),
    float: (re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(inf|nan)"), "a number"),
}

HOME = re.compile(r"^(-o|--[a-z-]+=|)~(?=/|$)")
INTERRUPTED = 130  # typer's code for every signal that became a KeyboardInterrupt outside of `failures`

UsageError: Any = typer.BadParameter.__base__  # typer carries click within itself from some version on


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the command `coterie`; `arguments` None means those of the command line."""
    given = [_at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    with consoles() as out, heed_signals(pass_on=False), as_written():
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


def _look_within(error: Any) -> None:
    """Let an unknown option name those that hold its word, --level --confidence-level: click compares whole names."""
    word = getattr(error, "option_name", "").strip("-")
    if hasattr(error, "possibilities") and error.ctx is not None and len(word) > 2:
        names = [name for param in error.ctx.command.params for name in param.opts]
        options = [name for name in names if name.startswith("-") and word in name]  # the others are arguments
        if found := sorted(options or error.possibilities or ()):
            error.message += f" (Possible options: {', '.join(found)})"  # the oldest typer prints a tuple of this text
            error.possibilities = None


def _at_home(word: str) -> str:
    """A word with ~ as the user's own folder, which a shell leaves alone behind `--output=` and in quotes."""
    return HOME.sub(lambda found: f"{found[1]}{os.path.expanduser('~')}", word)


def _check_empty(given: list[str]) -> None:
    """Raise UsageError for an option with an empty value: as a path it would be the working directory."""
    for option, value in itertools.pairwise(given):
        if option.startswith("-") and value == "":
            raise UsageError(f"{option} has an empty value: is a variable of the shell not set?")
    for option in given:
        if option.startswith("--") and option.endswith("=") and option.count("=") == 1:
            raise UsageError(f"{option[:-1]} has an empty value: is a variable of the shell not set?")


def _check_values(given: list[str]) -> None:
    """Raise UsageError for an option with two values, of which click would take the last, and for no plain number."""
    command = copy.copy(_group().commands.get(given[0]) if given else None)
    if command is None:
        return
    command.params = [copy.copy(param) for param in command.params]
    options = [param for param in command.params if param.param_type_name == "option"]
    single = [option for option in options if not option.multiple and (not option.is_flag or option.secondary_opts)]
    for option in single:
        option.multiple = True  # of this copy of the command: its parser keeps all values
    try:
        found, _, _ = command.make_parser(command.context_class(command)).parse_args(given[1:])
    except UsageError:
        return  # which the command itself will say
    hints = get_type_hints(command.callback)
    for option in options:
        values = found.get(option.name)
        values = values if isinstance(values, list) else []
        name = max(option.opts, key=len)
        if "-o" in option.opts and "-" in values:  # elsewhere that is standard output; here it would be a file's name
            raise UsageError("-o - names no file: results go to a file or a folder, and --json prints an object")
        for pattern, what in (
            NUMBERS[kind] for kind in get_args(hints[option.name]) or [hints[option.name]] if kind in NUMBERS
        ):
            if wrong := [value for value in values if not pattern.fullmatch(value.strip())]:
                raise UsageError(f"{name} is {wrong[0]!r}: it takes {what}.")
        if option in single and len(different := list(dict.fromkeys(values))) > 1:
            how = (
                f"{name} and {option.secondary_opts[0]} are both given"
                if option.is_flag
                else (f"{name} is given twice, as {different[0]} and {different[1]}")
            )
            raise UsageError(f"{how}: leave one out.")


@functools.cache  # typer looks through every function's annotations each time
def _group() -> Any:
    return typer.main.get_command(app)


def _main(given: list[str], out: Results) -> int:
    """Run the command; returns the exit code, and says every error in one sentence unless `debugging`."""
    try:
        os.getcwd()
    except FileNotFoundError:  # torch would end the process there with a library that it cannot load
        print("coterie: The folder that you are in is not there any more: change to another one.", file=sys.stderr)
        return 2
    try:
        _check_empty(given)
        _check_values(given)
        code = _group()(given or ["--help"], prog_name="coterie", standalone_mode=False)
        if code == INTERRUPTED:
            code = 128 + (asked() or signal.SIGINT)
        out.flush()
        return int(code or 0)
    except UsageError as error:
        _look_within(error)
        print(f"coterie: {_ended(error.format_message())} See coterie --help.", file=sys.stderr)
        return 2
    except typer.Abort:
        return INTERRUPTED
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
