"""Odd, damaged and hostile input for `fuzz.py`: each function makes the files of one try and says what to call.

Everything is drawn from one `random.Random`, so a try can be repeated. What a try changes is a copy.
"""

from __future__ import annotations

from collections.abc import Callable

from _attack_data import arrays, labels, pictures, tables
from _attack_place import Call as Call
from _attack_place import Place as Place
from _attack_place import Settings as Settings
from _attack_runs import model_folders, run_folders
from _attack_words import command_lines, settings, yaml_files

KINDS: dict[str, Callable[[Place], list[Call]]] = {
    "command lines": command_lines,
    "settings": settings,
    "YAML": yaml_files,
    "arrays": arrays,
    "tables": tables,
    "pictures": pictures,
    "labels": labels,
    "model folders": model_folders,
    "run folders": run_folders,
}
