"""The parts of the site that come from the code: commands, settings, public names, the table of methods."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields
from functools import partial
from types import ModuleType
from typing import Any

import _notebooks
import typer.main
from _docs import readme

import coterie.evaluation
import coterie.review
from coterie.algorithms import geometry
from coterie.calibration import Calibration
from coterie.catalogue import method_class, own_names
from coterie.cli.commands import app
from coterie.evaluation import accept
from coterie.training.plan import RunSettings
from coterie.views.settings import ViewSettings

# Settings whose meaning is the same in every method, and stands beside none of them.
COMMON = {
    "epochs": "passes through the items",
    "batch_size": "items in a step",
    "learning_rate": "of the optimiser",
    "momentum": "of SGD",
    "weight_decay": "of the optimiser",
    "beta1": "Adam's decay of the mean gradient",
    "beta2": "Adam's decay of the mean squared gradient",
    "hidden": "width of the head's hidden layer",
    "out": "width of the head's output",
    "embedding": "width of the layer whose output is grouped",
    "projector_layers": "layers of the projector",
    "projector_hidden": "width of the projector's hidden layer",
    "projector_out": "width of the projector's output",
    "projector_norm": "whether the projector has batch normalisation",
    "predictor_hidden": "width of the predictor's hidden layer",
    "temperature": "by which similarities are divided before the softmax",
    "over_clustering": "whether a second head with more groups is trained, too",
    "reconstruction_weight": "of the reconstruction's loss",
    "restarts": "of K-means; the best one is kept",
    "iterations": "of the solver",
    "steps": "of the optimiser",
}


def cell(text: object) -> str:
    """A text as a cell of a table in Markdown."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell(text) for text in line) + " |\n" for line in lines)


def option(parameter: Any) -> list[str]:
    """An option of a command: how it is typed, its default, what it does."""
    typed = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    if parameter.required:
        said = "must be given"
    elif default is None or callable(default) or default in (False, [], ()):
        said = ""
    else:
        said = f"`{default}`"
    return [typed, said, parameter.help or ""]


def named(argument: Any) -> str:
    """An argument as a usage line has it."""
    name = argument.metavar or argument.name.upper()
    name = name if argument.required else f"[{name}]"
    return f"{name}..." if argument.nargs == -1 else name


def commands() -> str:
    """Every command with its arguments and options, in the order of `coterie --help`."""
    group: Any = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        typed = " ".join(named(argument) for argument in arguments)
        part = f"## coterie {name}\n\n{command.help}\n\n```\ncoterie {name} [OPTIONS] {typed}".rstrip() + "\n```\n\n"
        for argument in arguments:
            part += f"- `{named(argument)}`: {argument.help or ''}\n"
        parts.append(part + "\n" + table(["option", "default", "what it does"], [option(p) for p in options]))
    return "\n".join(parts)


def meanings(kind: type[Any]) -> dict[str, str]:
    """What the comments beside and above a dataclass's fields say of them, by field."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    beside = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above, line = [], node.lineno - 1
            while line in beside and lines[line - 1].lstrip().startswith("#"):
                above.insert(0, beside[line])
                line -= 1
            own = [beside[line] for line in range(node.lineno, (node.end_lineno or node.lineno) + 1) if line in beside]
            found[node.target.id] = " ".join([*above, *own]) or COMMON.get(node.target.id, "")
    return found


def default_of(one: Any) -> str:
    """The default of a dataclass's field, as it is typed."""
    if one.default is not MISSING:
        return f"`{one.default}`"
    return "" if one.default_factory is MISSING else f"`{one.default_factory()}`"


def described(kind: type[Any], prefix: str = "") -> str:
    said = meanings(kind)
    rows = [[f"`{prefix}{one.name}`", default_of(one), said.get(one.name, "")] for one in fields(kind)]
    return table(["setting", "default", "meaning"], rows)


def run_settings() -> str:
    return described(RunSettings)


def view_settings() -> str:
    return described(ViewSettings, "views.")


def calibration_settings() -> str:
    return described(Calibration, "calibrate.")


def method_settings() -> str:
    """A table for each method, with the paper's defaults."""
    parts = []
    for name in own_names():
        kind = method_class(name)
        title = f"## {name}\n\n[{kind.card.title}](../methods/{name}.md) ({kind.card.year})\n\n"
        parts.append(title + described(kind, f"{name}."))
    return "\n".join(parts)


def defined_in(module: ModuleType) -> list[str]:
    """The functions and classes that a module defines for others, in its order."""
    found = [name for name, of in vars(module).items() if getattr(of, "__module__", "") == module.__name__]
    return [name for name in found if not name.startswith("_") and inspect.getdoc(getattr(module, name))]


# Module -> the names of it that users may rely on.
PUBLIC: dict[ModuleType, list[str]] = {
    coterie: [name for name in coterie.__all__ if not name.startswith("_")],
    coterie.evaluation: coterie.evaluation.__all__,
    accept: [name for name in defined_in(accept) if inspect.isfunction(getattr(accept, name))],
    geometry: defined_in(geometry),
    coterie.review: ["Review"],
}


def public(module: ModuleType) -> str:
    """Every public name of a module, with its docstring."""
    parts = []
    for name in PUBLIC[module]:
        kind = "class" if inspect.isclass(getattr(module, name)) else "function"
        members = "\n   :members:" if kind == "class" else ""
        parts.append(f"### {name}\n\n```{{eval-rst}}\n.. auto{kind}:: {module.__name__}.{name}{members}\n```\n")
    return "\n".join(parts)


def public_names() -> str:
    """The public names of every module."""
    return "\n".join(f"## {module.__name__}\n\n{public(module)}" for module in PUBLIC)


def as_list(text: str, names: Collection[str]) -> str:
    """A paragraph that explains parameters in a row, "a: this. b, c: that.", as a list of them; others as they are."""
    begin = re.compile(r"(?:^|(?<=[.;)] ))((?:\w+, )*\w+): ")
    found = [match for match in begin.finditer(text) if set(match[1].split(", ")) <= set(names)]
    if len(found) < 2:
        return text
    ends = [match.start() for match in found[1:]] + [len(text)]
    items = [f"- **{match[1]}**: {text[match.end() : end].strip()}" for match, end in zip(found, ends, strict=True)]
    return "\n".join([*([text[: found[0].start()], ""] if found[0].start() else []), *items])


def literal(text: str) -> str:
    """A docstring's text in which | and * outside of `code` are signs of formulas, not of reStructuredText."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def listed(lines: list[str], of: Any) -> list[str]:
    """A docstring's lines, with its parameters as a list."""
    try:
        names = set(inspect.signature(of).parameters)
    except (TypeError, ValueError):
        return lines
    parts = "\n".join(lines).split("\n\n")
    paragraphs = [part if part.startswith(">>>") else literal(part) for part in parts]
    plain = [part if part.startswith((" ", ">>>", "-", "..")) else " ".join(part.split("\n")) for part in paragraphs]
    return "\n\n".join(as_list(part, names) for part in plain).split("\n")


def methods() -> str:
    return readme.methods().replace("](docs/methods/", "](methods/")


PAGES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "run settings": run_settings,
    "view settings": view_settings,
    "calibration settings": calibration_settings,
    "method settings": method_settings,
    "public names": public_names,
    "methods": methods,
    **{f"notebook {path.stem}": partial(_notebooks.page, path.stem) for path in _notebooks.EXAMPLES.glob("*.ipynb")},
}
