"""What the site generates from the code: nothing is left out, and nothing is without a word of help."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import coterie
from coterie.calibration import Calibration
from coterie.catalogue import method_class, own_names
from coterie.cli.commands import app
from coterie.common.outputs import FILES, FOLDERS, OF_SEVERAL
from coterie.prediction.results import ALL_UP_TO, COLUMNS, TOP
from coterie.records.history import EpochLine
from coterie.training.plan import RunSettings
from coterie.views.settings import ViewSettings

ROOT = Path(__file__).parents[1]
GROUP: Any = typer.main.get_command(app)


@pytest.fixture
def made() -> ModuleType:
    import _made

    return _made


def test_every_command_and_option_has_help() -> None:
    for name, command in GROUP.commands.items():
        assert command.help, name
        silent = [p.name for p in command.params if not getattr(p, "help", None)]
        assert silent == [], name


def test_every_command_says_in_one_whole_sentence_what_it_is_for(coterie_help: str) -> None:
    listed = [line for line in coterie_help.split("Commands:")[1].splitlines() if line.strip()]
    assert len(listed) == len(GROUP.commands)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.fixture
def coterie_help() -> str:
    return str(GROUP.get_help(GROUP.context_class(GROUP, info_name="coterie", terminal_width=80)))


def test_the_page_of_commands_has_every_command_and_option(made: ModuleType) -> None:
    page = made.commands()
    for name, command in GROUP.commands.items():
        assert f"## coterie {name}\n" in page
        part = page.split(f"## coterie {name}\n")[1].split("\n## ")[0]
        assert all(f"`{option}`" in part for p in command.params if p.param_type_name == "option" for option in p.opts)


@pytest.mark.parametrize("kind", [RunSettings, ViewSettings, Calibration], ids=lambda kind: kind.__name__)
def test_every_setting_of_a_run_has_a_meaning(kind: type[Any], made: ModuleType) -> None:
    said = made.meanings(kind)
    assert [one.name for one in fields(kind) if not said.get(one.name)] == []


def test_every_setting_of_every_method_has_a_meaning(made: ModuleType) -> None:
    """The comment beside it, or a word of `_made.COMMON`."""
    silent = []
    for name in own_names():
        said = made.meanings(method_class(name))
        silent += [f"{name}.{one.name}" for one in fields(method_class(name)) if not said.get(one.name)]  # type: ignore[arg-type]
    assert silent == []


def test_meanings_are_the_comments_beside_and_above(made: ModuleType) -> None:
    said = made.meanings(ViewSettings)
    assert said["flip"] == "chance of a left-right mirror image"
    assert said["cutout"].startswith("longest side of the hole")
    assert said["row_norm"].startswith("all views, `clean` too")


def test_every_public_name_has_a_docstring_and_its_place(made: ModuleType) -> None:
    page = made.public_names()
    for name in coterie.__all__:
        if not name.startswith("_"):
            assert inspect.getdoc(getattr(coterie, name)), name
            assert f"coterie.{name}\n" in page


def test_every_page_stands_in_the_table_of_contents() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").split("\n")
    pages = {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    found = {name for name in pages if name.startswith(("methods/", "decisions/"))} | {"index"}
    assert pages == found | {line for line in text if line in pages}


def test_every_module_has_its_line_in_contributing_and_every_folder_in_the_tree() -> None:
    there = [
        one for one in (ROOT / "src" / "coterie").iterdir() if not one.name.startswith("_") and one.suffix != ".typed"
    ]
    folders = [f"{one.name}/" for one in there if one.is_dir()]
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = [*folders, *(one.name for one in there if one.is_file())]
    assert [name for name in names if f"`{name}`" not in table] == []
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("src/coterie/\n")[1]
    assert [name for name in folders if f"  {name} " not in tree] == []


def test_the_page_of_the_run_folder_has_every_column_key_and_file() -> None:
    page = (ROOT / "docs" / "reference" / "run_folder.md").read_text(encoding="utf-8")
    heads = {"probabilities_HEAD"}
    assert {name for name in COLUMNS | heads | set(EpochLine.model_fields) if f"`{name}`" not in page} == set()
    assert [text for text in (f"{ALL_UP_TO} groups", f"the {TOP} likeliest") if text not in page] == []
    ours = {*FILES, *OF_SEVERAL, *(f"{name}/" for name in FOLDERS)}
    assert {name for name in ours if f"`{name}`" not in page} == set()


def test_the_page_of_a_method_has_first_what_a_user_needs() -> None:
    for name in own_names():
        lines = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8").splitlines()
        titles = [line for line in lines if line.startswith("## ")]
        assert titles[0].startswith("## How to run it"), name
        when = "\n".join(lines[: lines.index(titles[0])]).split("\n\n")[2]
        assert when.startswith("**When to take it.** Take it "), name
        assert re.search(r"\b[Nn]ot\b", when), f"{name}: when not to take it"
        assert when.count("\n") < 3, f"{name}: three lines at most"
        late = [title for title in titles if title.startswith(("## How we differ", "## Parity"))]
        assert "## Results" in titles, name
        assert all(titles.index("## Results") < titles.index(title) for title in late), name


@pytest.mark.parametrize("name", own_names())
def test_the_page_of_a_method_names_its_published_rows_and_what_it_logs(name: str) -> None:
    text = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    card = method_class(name).card
    assert [row for row, settings in card.presets.items() if settings and not _named(text, row)] == []
    assert [number for number in card.logs if not _named(text, number, f"health.{number}")] == []


def _named(text: str, *names: str) -> bool:
    return any(f"`{name}`" in text or f"paper:{name}" in text for name in names)


def shown(text: str) -> list[Any]:
    """The values in a cell of a table: `true`, 10,000, 1/401, (0.99, 0.75), a word, or several of them."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.replace("`", "")).strip()
    if "/" in text:
        above, below = text.split("/")
        return [float(above) / float(below)]
    words = {"true": True, "false": False, "none": None}
    values: list[Any] = []
    for part in re.findall(r"\([^)]*\)|[^,]+", text):
        plain = part.strip()
        try:
            values.append(words[plain] if plain in words else ast.literal_eval(plain))
        except (ValueError, SyntaxError):
            values.append(plain)
    return values


@pytest.mark.parametrize("name", own_names())
def test_the_table_of_settings_on_a_page_has_the_defaults_of_the_code(name: str) -> None:
    kind, said = method_class(name), {}
    head = "| setting | default | meaning |"
    _, found_head, table = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8").partition(head)
    assert found_head == head, f"docs/methods/{name}.md has no table with this head"
    for line in table.split("\n\n")[0].splitlines()[2:]:
        names, value = line.split("|")[1:3]
        found, values = re.findall("`([^`]+)`", names), shown(value)
        if len(found) == 1 < len(values):
            values = [tuple(values)]
        said.update(zip(found, values * len(found) if len(values) == 1 else values, strict=True))
    assert {one.name for one in fields(kind)} - said.keys() == set()  # type: ignore[arg-type]
    for setting, value in said.items():
        own = getattr(kind, setting)
        assert value == (pytest.approx(own) if isinstance(value, float) else own), setting


def test_a_link_that_leads_nowhere_is_found(made: ModuleType, tmp_path: Path) -> None:
    import check_links

    (tmp_path / "a.html").write_text('<p id="here"><a href="b.html#there">b</a><a href="#here">a</a></p>')
    (tmp_path / "b.html").write_text('<p id="there"><a href="a.html#gone">a</a><img src="c.png"></p>')
    assert check_links.broken(tmp_path) == ["b.html: a.html#gone", "b.html: c.png"]


def test_parameters_that_a_docstring_explains_in_a_row_become_a_list(made: ModuleType) -> None:
    names = {"a", "b", "c"}
    assert made.as_list("a: this, as {x: 1}. b, c: that.", names) == "- **a**: this, as {x: 1}.\n- **b, c**: that."
    assert made.as_list("First. a: this. b: that.", names) == "First. \n\n- **a**: this.\n- **b**: that."
    assert made.listed(["sum |a - b| of `x|y`, E*"], len) == [r"sum \|a - b\| of `x|y`, E\*"]
    assert made.as_list("Raises: nothing. d: that.", names) == "Raises: nothing. d: that."
    found = "\n".join(made.listed((inspect.getdoc(coterie.Clusterer) or "").split("\n"), coterie.Clusterer))
    missing = [name for name in inspect.signature(coterie.Clusterer).parameters if f"{name}" not in found]
    assert missing == []
    assert "\n- **method**: " in found
