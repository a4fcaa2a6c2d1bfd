"""The code of README and guides does what it says: each block runs as it is printed, in a folder with small data.

A page is read from top to bottom in one folder, as a reader does. What cannot run here has a comment in the page,
`<!-- not run: REASON -->`; the pages of methods show long trainings, whose commands and settings are only checked.
"""

from __future__ import annotations

import ast
import csv
import functools
import glob
import importlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jaxtyping
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
from PIL import Image

from coterie.catalogue import method_class, own_names
from coterie.cli import main
from coterie.cli.commands import app
from coterie.prediction.results import read_result
from helpers.blocks import ROOT, blocks
from helpers.own_methods import forgotten

GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDES, *sorted((ROOT / "docs" / "methods").glob("*.md"))]
WITH_CODE = [page for page in GUIDES if any(b.commands or b.language == "python" for b in blocks(page))]
OTHER = ("text", "toml", "{toctree}", "{include}", "{eval-rst}")  # languages of blocks that show no code to run
# Beginnings of commands that no test runs.
ELSEWHERE = {
    "pip": "installs from the network",
    "python": "an experiment of this repository, with records of its own",
    "make": "runs the tests, or makes an environment",
    "accelerate": "starts processes of its own, on several machines",
    "torchrun": "starts processes of its own: tests/training runs it",
    "coterie review": "waits for Ctrl-C: tests/app runs it",
    "coterie --install-completion": "changes the shell's start file",
    "coterie --show-completion": "ends the process",
}
GROUP: Any = typer.main.get_command(app)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def skipped(command: str) -> bool:
    return any(command == begin or command.startswith(f"{begin} ") for begin in ELSEWHERE)


# ---- the data that the pages speak of


def picture(group: int, seed: int) -> Image.Image:
    """A smooth picture in the colour of its group."""
    rng = np.random.default_rng(seed)
    rough = 90 * np.eye(3)[group % 3] + rng.integers(0, 120, (4, 4, 3))
    return Image.fromarray(rough.astype(np.uint8)).resize((40, 32), Image.Resampling.BICUBIC)


def photos(folder: Path, count: int, first: int = 1) -> None:
    for seed in range(first, first + count):
        path = folder / "abc"[(seed - 1) % 3] / f"IMG_{seed}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed % 3, seed).save(path)


def vectors(count: int, width: int, groups: int = 20) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(groups, width))[np.arange(count) % groups] * 3 + rng.normal(size=(count, width))).astype(
        np.float32
    )


def table(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, brief_calibration: None) -> Any:
    """What runs commands; the same `fit` of the same data is done once and then copied."""
    jaxtyping.config.update(
        "jaxtyping_disable", True
    )  # annotations are checked by all other tests; here they cost most
    with pytest.MonkeyPatch.context() as patch:
        yield Runner(tmp_path_factory, patch)
    jaxtyping.config.update("jaxtyping_disable", False)


class Runner:
    """Small data of the names that the pages use, a finished run `runs/photos`, and commands on them."""

    def __init__(self, factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> None:
        from coterie.encoders import catalogue, embedding

        # The real encoder with its real weights, looking at 32 pixels in place of 224: forty times quicker.
        patch.setitem(catalogue.BY_NAME, catalogue.WHEEL, replace(catalogue.BY_NAME[catalogue.WHEEL], size=32))
        patch.setenv("HF_HUB_OFFLINE", "1")
        # Loaded once for all pages: nothing changes an encoder that is loaded.
        patch.setattr(embedding, "load_encoder", functools.cache(embedding.load_encoder))
        self.patch, self.kept = patch, {}
        self.world = factory.mktemp("world")
        self.store = factory.mktemp("kept")
        self.make()

    def make(self) -> None:
        photos(self.world / "photos", 312)
        photos(self.world / "new", 6, first=1000)
        photos(self.world / "new-photos", 4, first=2000)
        photos(self.world / "other", 12, first=3000)
        np.save(self.world / "embeddings.npy", vectors(320, 16))
        ids = sorted(path.relative_to(self.world / "photos").as_posix() for path in self.world.glob("photos/*/*.jpg"))
        table(self.world / "truth.csv", ["id", "label"], [[item, item[0]] for item in ids])
        self.enter(self.world)
        self.run("coterie fit photos/ -k 12 -o runs/photos")
        result = read_result(Path("runs/photos/result.parquet"))
        said = dict(zip(result.ids, result.labels.tolist(), strict=True))
        Path("project.json").write_text(json.dumps([task(item, group) for item, group in said.items()][:120]))
        write_features(Path("table.parquet"))
        table(Path("judged.csv"), ["id", "label"], [[item, group] for item, group in said.items()][:200])

    def enter(self, folder: Path) -> None:
        self.patch.chdir(folder)

    def page(self, folder: Path) -> None:
        """A folder of its own with all data, for one page."""
        shutil.copytree(self.world, folder, dirs_exist_ok=True, copy_function=copied)
        self.enter(folder)

    def run(self, command: str) -> None:
        """Run a command as the shell would."""
        words = [found for word in shlex.split(command, comments=True) for found in expanded(word)]
        assert words[0] == "coterie", command
        out = Path(words[words.index("-o") + 1]) if "-o" in words else None
        cached = words[1] == "fit" and out is not None and "--resume" not in words
        key = " ".join(words)
        if cached and key in self.kept:
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(self.kept[key], out)
            return
        if cached and out.exists():
            shutil.rmtree(out)  # of another command of the page
        if "--from" in words:
            out.unlink()  # the judgements that stand for those which come back
        code = main(words[1:])
        assert code == 0, f"{command} ended with {code}"
        if cached:
            self.kept[key] = self.store / str(len(self.kept))
            shutil.copytree(out, self.kept[key])
        if "--draw" in words:
            judge(out)


def copied(path: str, to: str) -> None:
    """A file, or, of a picture, another name of it: coterie never writes to one."""
    (os.link if path.endswith(".jpg") else shutil.copy2)(path, to)


def expanded(word: str) -> list[str]:
    """What the shell makes of a word with a star."""
    return sorted(glob.glob(word)) or [word]


def judge(path: Path) -> None:
    """What the reader does by hand: fill in the column `right`. One in twelve is wrong."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    said = [{**row, "right": "false" if number % 12 == 5 else "true"} for number, row in enumerate(rows)]
    table(path, list(rows[0]), [list(row.values()) for row in said])


def write_features(path: Path) -> None:
    """A table with numbered columns, two more and a list column."""
    values = vectors(60, 64)
    columns: dict[str, Any] = {f"f{number}": values[:, number] for number in range(64)}
    columns |= {"PC1": values[:, 0], "PC2": values[:, 1], "embedding": list(values)}
    pq.write_table(pa.table(columns), path)


def task(item: str, group: int) -> dict[str, Any]:
    """An annotated task as Label Studio exports it."""
    choice = {"type": "choices", "from_name": "group", "value": {"choices": [f"group {group}"]}}
    said = {"updated_at": "2026-01-01T00:00:00Z", "result": [choice]}
    return {"data": {"coterie_id": item}, "annotations": [said]}


def variables() -> dict[str, Any]:
    """What a reader has before the first block in Python: arrays under the names that the pages give them."""
    rng = np.random.default_rng(0)
    embeddings = vectors(320, 16)
    return {
        "embeddings": embeddings,
        "features": embeddings,
        "labels": np.arange(320) % 20,
        "groups": np.arange(320) % 4,
        "images": rng.integers(0, 256, (64, 8, 8), dtype=np.uint8),
        "new": rng.integers(0, 256, (5, 8, 8), dtype=np.uint8),
        "pictures": np.stack([np.asarray(picture(seed % 3, seed)) for seed in range(60)]),
        "confidence": np.linspace(0.5, 1, 400),
        "right": np.ones(300, dtype=bool),
    }


# ---- the pages


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:merge_groups moved")  # which items move depends on the pictures
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_blocks_of_a_page_run_as_they_are_printed(
    page: Path, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.page(tmp_path)
    module = ModuleType("reader")  # in which a class can be looked up, as in a notebook
    module.__dict__.update(variables())
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with forgotten():
        run_blocks(page, runner, module.__dict__)


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_what_a_block_imports_is_there_for_others(page: Path) -> None:
    """Also a block that is not run: one took a class from where it happened to be imported, which had moved."""
    for block in blocks(page):
        if block.language != "python" or "..." in block.text:
            continue
        taken = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ImportFrom)]
        for node in taken:
            if node.module is None or not node.module.startswith("coterie"):
                continue
            found: dict[str, Any] = {}
            exec(ast.unparse(node), found)
            for name in (alias.asname or alias.name for alias in node.names):
                own = getattr(found[name], "__module__", node.module) == node.module
                offered = getattr(importlib.import_module(node.module), "__all__", ())
                assert own or name in offered, f"{page}:{block.line}: {node.module}.{name}"


def run_blocks(page: Path, runner: Runner, names: dict[str, Any]) -> None:
    for block in blocks(page):
        if block.not_run:
            continue
        try:
            if block.language == "python":
                exec(compile(block.text, f"{block.page}:{block.line}", "exec"), names)
            for command in block.commands:
                if not skipped(command):
                    runner.run(command)
        except BaseException as error:
            error.add_note(f"{block.page}, line {block.line}:\n{block.text}")
            raise


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_code_or_says_that_it_is_none(page: Path) -> None:
    silent = [b.line for b in blocks(page) if not (b.commands or b.language in ("python", *OTHER) or b.not_run)]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_a_page_and_their_settings_are_there(page: Path) -> None:
    for block in blocks(page):
        for command in block.commands:
            if command.split()[0] == "coterie":
                check(command)


def check(command: str) -> None:
    """Raise where a command line cannot be parsed, or sets what no method has."""
    words = shlex.split(command, comments=True)[1:]
    if words[0].startswith("-"):
        assert words[0] in {option for p in GROUP.params for option in p.opts}, command
        return
    context = GROUP.commands[words[0]].make_context(words[0], list(words[1:]))
    given = context.params
    if words[0] == "fit":
        assert given["method"] in (None, "auto", *own_names(), "smallautoencoder"), command
        for name in (one.partition("=")[0] for one in given["set_"] or []):
            stage, _, setting = name.rpartition(".")
            stage = given["method"] if stage == "method" else stage
            if stage in own_names():
                assert setting in {one.name for one in fields(method_class(stage))}, command  # type: ignore[arg-type]
