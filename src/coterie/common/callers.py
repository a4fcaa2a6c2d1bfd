"""Advice in the words of whoever calls: messages name options of the command line, and Python's callers get arguments.

May not live here: anything that knows what a message is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from coterie.types import CoterieError, RunFailed

COMMANDS = (
    *("demo", "fit", "methods", "encoders", "embed", "choose-k", "duplicates", "predict", "review", "export", "report"),
    *("evaluate", "accept", "recalibrate", "compare", "supervised"),
)
FLAGS = ("pretrained", "finetune", "calibrate", "overwrite", "include-rejected", "thumbs", "prefix-names", "squash")
VALUED = (
    *("method", "epochs", "preset", "init", "pretrain", "encoder", "backbone", "weights", "image-size", "family"),
    *("columns", "device", "precision", "runs", "source", "only", "link", "limit", "document-root", "pooling"),
    *("engine", "test", "test-labels", "held-out"),
)
PLACE = "output"
CALLED = {"k": "n_clusters", "o": PLACE, "seed": "random_state"}  # in Python, where not by the option's own name
WORDS = (  # that are values where they follow an option; others belong to the sentence
    *("auto", "none", "cpu", "cuda", "mps", "practical", "paper", "photo", "glyph", "copy", "symlink", "hard", "ray"),
    *("all", "decided", "accepted", "undecided", "cdc", "spectral", "turtle", "kmeans", "moco"),
)
# A command is itself advice that Python's callers can follow, in a terminal.
COMMAND = rf"(?:\bcoterie (?:{'|'.join(COMMANDS)})\b|\b(?:{'|'.join(COMMANDS)})(?= -))[^:;,)`]*"
VALUE = rf"'[^']*'|(?:{'|'.join(WORDS)})\b|[\w./*-]*[A-Z0-9][\w./*-]*(?<!\.)"
NAME = rf"(?<![\w-])--?(?P<name>{'|'.join((*FLAGS, *VALUED, *CALLED))})\b"
OPTION = rf"(?P<leave>\b[Ll]eave (?:out )?)?{NAME}(?:[ ](?P<value>{VALUE}))?"
SETTING = r"--set (?P<setting>[\w.]*\w)(?:=(?P<given>[\w.]*\w))?"
ADVICE = re.compile(rf"(?P<command>{COMMAND})|{SETTING}|(?P<no>--no-calibrate|--resume)\b|{OPTION}")

_inside = 0  # blocks of `as_written`


@contextmanager
def as_written() -> Iterator[None]:
    """Within the block messages stay as they are: the caller is the command line, or has the last word on them."""
    global _inside
    _inside += 1
    try:
        yield
    finally:
        _inside -= 1


def worded(text: str, place: str = PLACE) -> str:
    """A message in the words of the caller; `place`: the argument that -o is there."""
    return text if _inside else in_python(text, place)


def reword(error: CoterieError, place: str = PLACE) -> None:
    """Put the message of an error into the words of the caller."""
    error.args = tuple(worded(one, place) if isinstance(one, str) else one for one in error.args)
    if isinstance(error, RunFailed):
        error.reason, error.advice = worded(error.reason, place), worded(error.advice, place)


def in_python(text: str, place: str = PLACE) -> str:
    """The message with arguments in place of options; commands stay as they are.

    >>> in_python("Lower --set cdc.head_rate, use --device cpu or leave --weights out: coterie fit X --resume goes on.")
    'Lower settings["cdc.head_rate"], use device="cpu" or leave weights out: coterie fit X --resume goes on.'
    """
    return ADVICE.sub(lambda found: _argument(found, {**CALLED, "o": place}), text)


def _argument(found: re.Match[str], called: Mapping[str, str]) -> str:
    if found["command"] is not None:
        return found[0]
    if found["setting"] is not None:
        name, given = found["setting"], found["given"]
        return f'settings["{name}"]' if given is None else f'settings={{"{name}": {_said(given)}}}'
    if found["no"] is not None:  # to go on with a run is nothing that Python offers
        return "calibrate=False" if found["no"] == "--no-calibrate" else "coterie fit --resume"
    leave, option, value = found["leave"] or "", found["name"], found["value"]
    name = called.get(option, option.replace("-", "_"))
    if option in FLAGS:
        return f"{leave}{name}" if leave else f"{name}=True"
    return f"{leave}{name}" if value is None else f"{leave}{name}={_said(value)}"


def _said(value: str) -> str:
    """A value as Python's callers write it; FILE and the like stand for one."""
    if value in ("true", "false"):
        return value.capitalize()
    plain = re.fullmatch(r"[\d.]+|[A-Z]+", value) is not None
    return value if plain else f'"{value.strip(chr(39))}"'
