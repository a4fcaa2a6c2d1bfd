from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from coterie.records import read_record
from coterie.training.runfolder import RunFolder
from coterie.types import InputError

SETTINGS = {
    "n_clusters": 5,
    "seed": 0,
    "init": None,
    "weights": "w.pth",
    "pretrained": False,
    "checkpoint_seconds": 60.0,
}
RECORD: dict[str, Any] = {
    "status": "running",
    "source": {
        "fingerprint": "ab",
        "kind": "images",
        "family": "photo",
        "spec": {"kind": "images", "height": 8, "columns": []},
    },
    "settings": SETTINGS,
    "stages": [{"name": "moco", "settings": {"epochs": 3}}, {"name": "cdc", "settings": {"cells": 7, "epochs": 9}}],
    "views": {"flip": 0.5, "crop_scale": [0.2, 1.0]},
    "calibration": None,
    "backbone": {"name": "small-16", "why": "asked for"},
    "device": "cpu",
    "precision": {"value": "fp32", "why": "asked for"},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """The record with one entry changed."""
    record = copy.deepcopy(RECORD)
    *way, last = path.split("/")
    at: Any = record
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    at[last] = value
    return record


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder where a run was begun."""
    folder = RunFolder(tmp_path / "run")
    folder.prepare(resume=False)
    folder.update(**RECORD)
    return tmp_path / "run"


@pytest.mark.parametrize("inside", ["second", "deep/second", "link/second"])
def test_a_new_run_lies_in_no_other(inside, tmp_path):
    """It was made, and went with the outer one where that was moved or removed."""
    outer = tmp_path / "outer"
    RunFolder(outer).update(status="done")
    (outer / "history.jsonl").write_text("")
    (tmp_path / "link").symlink_to(outer)
    place = tmp_path / inside if inside.startswith("link") else outer / inside
    with pytest.raises(InputError, match=r"second lies in the run .*outer: choose another folder"):
        RunFolder(place).prepare(resume=False)
    assert not place.exists()
    RunFolder(place).update(status="stopped")  # begun before this was refused
    RunFolder(place).prepare(resume=True)


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
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="is a link that leads nowhere"):
        RunFolder(tmp_path / "link").prepare(resume=False)


def test_a_run_is_not_overwritten_but_resumed(begun: Path) -> None:
    with pytest.raises(InputError, match="already holds a run: go on with --resume"):
        RunFolder(begun).prepare(resume=False)
    RunFolder(begun).prepare(resume=True)
    RunFolder(begun).check_same(RECORD)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("settings/checkpoint_seconds", 0.0),
        ("settings/weights", "./w.pth"),
        ("settings/epochs", 9),  # typed or not: what it resolved to is the same
        ("settings/device", "cpu"),
        ("backbone/why", "grey images of 8 px on a CPU"),
        ("precision/why", "embeddings"),
        ("calibration", {"cells": 4}),
    ],
)
def test_what_does_not_change_the_result_may_change(begun: Path, path: str, value: object) -> None:
    RunFolder(begun).check_same(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("settings/n_clusters", 6, "-k = 5, not 6"),
        ("settings/seed", 1, "--seed = 0, not 1"),
        ("settings/weights", "other.pth", "--weights = .*other.pth"),
        ("settings/pretrained", True, "--pretrained = False, not True"),
        ("source/spec/height", 16, r"the height \(--image-size\) = \d+, not 16"),
        ("source/spec/columns", ["f0", "f1"], r"the columns = .*, not \['f0', 'f1'\]: resume"),
        ("source/family", "glyph", "--family = 'photo', not 'glyph'"),
        ("stages/1/settings/cells", 8, r"cdc\.cells = 7, not 8"),
        ("stages/0/settings/epochs", 4, r"moco\.epochs = 3, not 4"),
        ("stages/1/name", "dec", "the stages"),
        ("views/flip", 0.0, r"views\.flip = 0\.5, not 0\.0"),
        ("backbone/name", "small-32", "--backbone = 'small-16', not 'small-32'"),
        ("device", "cuda", "--device = 'cpu', not 'cuda'"),
        ("precision/value", "bf16", "--precision = 'fp32', not 'bf16'"),
    ],
)
def test_what_was_resolved_must_be_the_same(begun: Path, path: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RunFolder(begun).check_same(changed(path, value))


def test_what_an_older_record_lacks_is_not_compared(begun: Path) -> None:
    RunFolder(begun).check_same(changed("stages/1/settings/of_a_newer_version", 3))


def test_a_resumed_run_must_have_the_same_data(begun: Path) -> None:
    with pytest.raises(InputError, match="data have changed"):
        RunFolder(begun).check_same(changed("source/fingerprint", "cd"))


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
        ("a: [1", "is no YAML"),
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
    folder.check_same(RECORD)
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
