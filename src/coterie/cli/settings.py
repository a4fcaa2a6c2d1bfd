"""Settings of a run from `--config` files and `--set` options."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from coterie.encoders.catalogue import AUTO
from coterie.running.deciding import BY_ITEMS
from coterie.training.plan import OF_THE_RUN, RunSettings
from coterie.types import InputError

DECIDED = ("by_items", "trained_by")  # of RunSettings; a record that is copied from has them, empty
LARGEST = 1 << 20  # bytes of a configuration
DECIMAL = {  # in YAML 1.1, which PyYAML reads, 010 is eight, 1_0 ten, 1:30 ninety and 1e3 a text
    "int": re.compile(r"[-+]?[0-9]+$"),
    "float": re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
}


class Plain(yaml.SafeLoader):
    """YAML without what a list of settings never needs: aliases, the same key twice, dates, other bases than ten."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"*{event.anchor} is an alias: write the value out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def check_seed(seed: int) -> None:
    """Raise InputError for a seed that no random numbers begin with."""
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed is {seed}: it takes a whole number from 0 to 2**63 - 1.")


def _only_decimal() -> None:
    """Let `Plain` read numbers as `DECIMAL` has them, and dates as texts."""
    Plain.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":int", ":float", ":timestamp"))]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for name, pattern in DECIMAL.items():
        Plain.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, list("-+.0123456789"))

    def whole(loader: Plain, node: yaml.ScalarNode) -> int:
        return int(str(loader.construct_scalar(node)))

    Plain.add_constructor("tag:yaml.org,2002:int", whole)


_only_decimal()


def plain_yaml(text: str) -> Any:
    """The value that a YAML text holds. Raises ValueError with what is wrong, in a line."""
    try:
        return yaml.load(text, Plain)
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise ValueError(f"{error.problem}{where}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (LookupError, AttributeError, TypeError, OverflowError) as error:  # of a value that a tag says it is
        raise ValueError("it holds a value that is not of the type it names") from error


def settings_given(options: Mapping[str, Any], config: Path | None, assignments: list[str]) -> dict[str, Any]:
    """Settings of RunSettings by name: of a file, over them the options of the same names, and those of --set.

    An option that is None was not given. Raises InputError.
    """
    settings: dict[str, Any] = read_config(config) if config is not None else {}
    names = {field.name for field in fields(RunSettings)}
    given = {name: value for name, value in options.items() if name in names and value is not None}
    settings |= given
    set_, written = read_overrides(assignments), settings.get("overrides", {})
    named = settings.get("method", AUTO)
    own = ("", "method.", *(f"{name}." for name in (BY_ITEMS if named == AUTO else [named])))  # before one of its own

    def bare(name: str) -> str:
        stage, dot, setting = name.rpartition(".")
        return setting if f"{stage}{dot}" in own else name

    # A setting of the last stage has several names, and under any of them the command line wins over the file; epochs
    # are an option as well.
    over = {bare(name) for name in set_}
    if given.get("epochs") is not None:
        over.add("epochs")
    elif "epochs" in over:
        settings.pop("epochs", None)
    written = {name: value for name, value in written.items() if bare(name) not in over}
    overrides = {**written, **set_}
    settings |= {name: overrides.pop(name) for name in OF_THE_RUN if name in overrides}
    return {**settings, "overrides": overrides}


def read_overrides(assignments: list[str]) -> dict[str, Any]:
    """`method.cells=40` -> {"method.cells": 40}, values read as YAML. Raises InputError for anything else."""
    overrides: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"--set {text[:60]!r} is no setting: write it as method.cells=40.")
        try:
            read = plain_yaml(value)
        except ValueError as error:
            raise InputError(f"--set {name} has a value that cannot be read, {value[:60]!r} ({error}).") from error
        if name in overrides and overrides[name] != read:
            raise InputError(f"--set {name} is given twice, with two values: leave one out.")
        overrides[name] = read
    return overrides


def read_config(path: Path) -> dict[str, Any]:
    """Settings of a YAML file: those of a run by name, and a mapping for each stage. Raises InputError."""
    try:
        content = plain_yaml(_text(path))
    except OSError as error:
        raise InputError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except InputError:
        raise
    except ValueError as error:  # of YAML, or bytes that are not UTF-8
        raise InputError(f"The configuration {path} is no YAML: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The configuration {path} must be a mapping of settings, such as 'n_clusters: 10'.")
    settings: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, value in content.items():
        if not isinstance(name, str):
            raise InputError(f"The configuration {path} has the setting {name!r}, which is no name.")
        if not isinstance(value, dict):
            settings[name] = value
            continue
        for setting, inner in value.items():
            setting = setting if name == "overrides" else f"{name}.{setting}"
            if not isinstance(setting, str) or setting in overrides:
                reason = "stands there twice" if setting in overrides else "is no name"
                raise InputError(f"The configuration {path} has the setting {setting!r}, which {reason}.")
            overrides[setting] = inner
    if (found := next((name for name in DECIDED if settings.pop(name, None)), None)) is not None:
        raise InputError(f"The configuration {path} has {found}, which coterie decides by the items: leave it out.")
    if "overrides" in settings:
        raise InputError(f"The configuration {path} has overrides that are no mapping, such as 'cdc.cells: 40'.")
    return {**settings, "overrides": overrides}


def _text(path: Path) -> str:
    """The text of a regular file of bounded size. Raises InputError, OSError and UnicodeDecodeError."""
    if path.exists() and not path.is_file():
        raise InputError(f"The configuration {path} is no file.")
    if path.stat().st_size > LARGEST:
        raise InputError(f"The configuration {path} is larger than {LARGEST >> 20} MiB: it is no list of settings.")
    return path.read_text(encoding="utf-8")
