from __future__ import annotations

from pathlib import Path

import pytest

from coterie.records import read_record
from coterie.training.runfolder import RunFolder
from coterie.types import InputError

SETTINGS = {"n_clusters": 5, "seed": 0, "overrides": {"cdc.cells": 7}, "checkpoint_seconds": 60.0}


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder where a run was begun."""
    folder = RunFolder(tmp_path / "run")
    folder.prepare(resume=False)
    folder.update(settings=SETTINGS, source={"fingerprint": "ab"}, status="running")
    return tmp_path / "run"


def test_a_new_folder_and_an_empty_one_are_taken(tmp_path: Path) -> None:
    RunFolder(tmp_path / "a" / "b").prepare(resume=False)
    RunFolder(tmp_path / "a" / "b").prepare(resume=False)
    RunFolder(tmp_path / "a" / "c").prepare(resume=True)
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    for resume in (False, True):
        with pytest.raises(InputError, match="not empty and holds no run"):
            RunFolder(tmp_path).prepare(resume=resume)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="is a file"):
        RunFolder(tmp_path / "x").prepare(resume=False)
    with pytest.raises(InputError, match="cannot be made"):
        RunFolder(tmp_path / "x" / "y").prepare(resume=False)


def test_a_run_is_not_overwritten_but_resumed(begun: Path) -> None:
    with pytest.raises(InputError, match="already holds a run: go on with --resume"):
        RunFolder(begun).prepare(resume=False)
    RunFolder(begun).prepare(resume=True)
    RunFolder(begun).check_same(SETTINGS, "ab")


def test_what_does_not_change_the_result_may_change(begun: Path) -> None:
    RunFolder(begun).check_same({**SETTINGS, "checkpoint_seconds": 0.0}, "ab")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_clusters": 6}, "n_clusters = 5, not 6"),
        ({"overrides": {}}, r"overrides = \{'cdc.cells': 7\}, not \{\}"),
        ({"seed": 1}, "seed = 0, not 1"),
    ],
)
def test_a_resumed_run_must_have_the_same_settings(begun: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RunFolder(begun).check_same({**SETTINGS, **change}, "ab")


def test_a_resumed_run_must_have_the_same_data(begun: Path) -> None:
    with pytest.raises(InputError, match="data have changed"):
        RunFolder(begun).check_same(SETTINGS, "cd")


def test_entries_add_up_and_are_read_back(begun: Path) -> None:
    folder = RunFolder(begun)
    folder.update(source={"fingerprint": "ab"}, status="running")
    folder.update(status="done", note="größer")
    assert read_record(begun) == {"source": {"fingerprint": "ab"}, "status": "done", "note": "größer"}
    assert folder.file("model") == begun / "model"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no run"),
        ("a: [1", "damaged"),
        ("just text", "no mapping of entries"),
        ("", "no mapping of entries"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        read_record(tmp_path)


def test_a_run_in_memory_writes_nothing() -> None:
    folder = RunFolder(None)
    folder.prepare(resume=False)
    folder.check_same(SETTINGS, "ab")
    folder.update(status="done")
    assert folder.record == {"status": "done"}
    assert folder.file("model") is None


def test_only_the_first_of_several_processes_writes(tmp_path: Path, begun: Path) -> None:
    other = RunFolder(tmp_path / "new", writes=False)
    other.prepare(resume=False)
    assert not (tmp_path / "new").exists()
    other = RunFolder(begun, writes=False)
    other.prepare(resume=False)  # the first process has made it by then
    other.update(status="done")
    assert read_record(begun)["status"] == "running"
