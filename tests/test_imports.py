"""The rule that no method imports another catches one that does; a folder's list of its modules names all of them."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("planted", "kept"), [("", True), ("from coterie.methods.dec import DEC\n", False)])
def test_a_method_that_imports_another_breaks_the_rule(planted: str, kept: bool, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "src" / "coterie" / "methods" / "newest.py").write_text(f'"""A new method."""\n{planted}')
    code = "import sys; sys.path.insert(0, 'src')\n"
    code += "from importlinter.cli import lint_imports\nsys.exit(lint_imports(no_cache=True))"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (found.returncode == 0) == kept, found.stdout
    if not kept:
        assert "no method imports another method BROKEN" in found.stdout
        assert "coterie.methods.newest -> coterie.methods.dec" in found.stdout


FOLDERS = sorted(path.parent for path in (ROOT / "src" / "coterie").glob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_that_lists_its_modules_lists_all_and_no_others(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    entries = re.split(r"^- ", text.split("\n\nMay not")[0], flags=re.MULTILINE)[1:]
    if not entries:
        pytest.skip("it has no list")
    named = set(re.findall(r"`(\w+)`", " ".join(entries)))
    there = {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}
    assert there <= named, f"not in the list: {there - named}"
    headed = {name for entry in entries for part in entry.split(";") for name in heading(part)}
    assert headed <= there, f"in the list, and no module: {headed - there}"


def heading(part: str) -> list[str]:
    """The names before the colon of one part of an entry: `a`, `b`: what they are."""
    found = re.match(r"\s*((?:`\w+`(?:, )?)+):", part)
    return re.findall(r"`(\w+)`", found[1]) if found else []
