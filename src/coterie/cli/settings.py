"""Settings of a run from `--config` files and `--set` options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from coterie.types import InputError


def read_overrides(assignments: list[str]) -> dict[str, Any]:
    """`method.cells=40` -> {"method.cells": 40}, values read as YAML. Raises InputError for anything else."""
    overrides = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {text!r} is no setting: write it as method.cells=40.")
        try:
            overrides[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {text!r} has a value that cannot be read: {value!r}.") from error
    return overrides


def read_config(path: Path) -> dict[str, Any]:
    """Settings of a YAML file: those of a run by name, and a mapping for each stage. Raises InputError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration {path} is no YAML: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The configuration {path} must be a mapping of settings, such as 'n_clusters: 10'.")
    settings: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, value in content.items():
        if not isinstance(value, dict):
            settings[str(name)] = value
        elif name == "overrides":
            overrides |= {str(path): inner for path, inner in value.items()}
        else:
            overrides |= {f"{name}.{setting}": inner for setting, inner in value.items()}
    if "overrides" in settings:
        raise InputError(f"The configuration {path} has overrides that are no mapping, such as 'cdc.cells: 40'.")
    return {**settings, "overrides": overrides}
