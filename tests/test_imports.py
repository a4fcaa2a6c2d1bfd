"""The rule that no method imports another one catches one that does."""

from __future__ import annotations

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
