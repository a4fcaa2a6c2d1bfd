"""What is installed is what stands in the tree: the wheel, the sdist, and the words about both."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
import yaml

import coterie

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
needs_backend = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hatchling", "pip")),
    reason="hatchling and pip build the wheel: pip install hatchling",
)


def wheel_of(tree: Path, to: Path) -> Path:
    """Build a wheel without a network and without a new environment."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(to), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=to)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = to.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    """The package's files in a wheel, without the record of the installation."""
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist() if ".dist-info/" not in name}


@needs_backend
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "src" / "coterie"
    files = [f for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    tree = {f.relative_to(ROOT / "src").as_posix(): f.read_bytes() for f in files}
    assert contents(wheel) == tree
    kinds = {Path(name).suffix for name in tree}
    assert kinds >= {".py", ".j2", ".css", ".js", ".svg"}, "of the report and the review app"
    assert "coterie/py.typed" in tree


@needs_backend
def test_the_wheels_metadata_are_those_of_the_project(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        of = {name.split("/", 1)[1]: opened.read(name).decode() for name in opened.namelist() if ".dist-info/" in name}
    metadata = Parser().parsestr(of["METADATA"])
    assert metadata["Version"] == coterie.__version__
    assert set(metadata.get_all("Provides-Extra") or []) == set(PROJECT["optional-dependencies"])
    assert "coterie = coterie.__main__:main" in of["entry_points.txt"]
    assert "licenses/LICENSE" in of


@needs_backend
def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "docs/install.md"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()
    (tmp_path / "again").mkdir()
    assert contents(wheel_of(unpacked, tmp_path / "again")) == contents(wheel)


@needs_backend
def test_what_the_wheel_holds_fits_and_reports(wheel: Path, tmp_path: Path) -> None:
    """In a process that sees the unpacked wheel and not the tree."""
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32))
    code = "import sys, coterie; from coterie.cli import main; print(coterie.__file__); sys.exit(main(sys.argv[1:]))"
    asked = ["fit", "vectors.npy", "-k", "3", "--method", "kmeans", "--no-calibrate", "-o", "run", "-q"]
    seen = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code, *asked]
    done = subprocess.run(command, cwd=tmp_path, env=seen, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout.splitlines()[0]
    assert "<html" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == coterie.__version__


def test_every_extra_of_a_user_is_described() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert {extra for extra in PROJECT["optional-dependencies"] if f"`coterie[{extra}]`" not in page} == {"dev"}


def test_the_citation_has_what_its_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["license"] == PROJECT["license"]


def test_every_requirement_has_a_lowest_version() -> None:
    """Without it `make test-lowest` would try the first release there ever was."""
    asked = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    assert [one for one in asked if not re.search(r"[>=]=\d", one)] == []
