from __future__ import annotations

from pathlib import Path

import pytest

from coterie.training.history import EpochRecord, History, read_history
from coterie.types import InputError


def record(stage: str, epoch: int) -> EpochRecord:
    return EpochRecord(stage, epoch, 5, {"cluster": 1.5 / epoch}, {"groups_used": 4.0}, 0.5, 200.0)


@pytest.fixture
def history(tmp_path: Path) -> History:
    history = History(tmp_path / "history.jsonl")
    for stage, epoch in [("moco", 1), ("moco", 2), ("cdc", 1), ("cdc", 2), ("cdc", 3)]:
        history.add(record(stage, epoch))
    return history


def test_what_is_added_is_on_the_disk_at_once(history: History) -> None:
    assert history.path is not None
    assert read_history(history.path).records == history.records
    assert history.rows()[0]["losses"] == {"cluster": 1.5}


def test_a_file_that_cannot_grow_is_named(history: History) -> None:
    resource = pytest.importorskip("resource")
    assert history.path is not None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (history.path.stat().st_size, limits[1]))  # as a full disk refuses more
    try:
        with pytest.raises(InputError, match=r"history.jsonl could not be written .*: allow larger files"):
            history.add(record("cdc", 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_last_line_that_was_cut_off_is_left_out(history: History, cut: int) -> None:
    assert history.path is not None
    history.path.write_bytes(history.path.read_bytes()[:-cut])
    expected = history.records if cut == 1 else history.records[:-1]  # the last byte is the end of the line only
    assert read_history(history.path).records == expected


def test_epochs_beyond_the_checkpoint_are_forgotten_in_that_stage_only(history: History) -> None:
    assert history.path is not None
    with open(history.path, "a") as file:
        file.write('{"stage": "cdc", "epo')
    again = read_history(history.path)
    again.keep("cdc", 1)
    again.add(record("cdc", 2))
    assert [(r.stage, r.epoch) for r in again.records] == [("moco", 1), ("moco", 2), ("cdc", 1), ("cdc", 2)]
    assert read_history(history.path).records == again.records


def test_a_history_without_a_path_stays_in_memory(tmp_path: Path) -> None:
    history = History(None)
    history.add(record("cdc", 1))
    history.keep("cdc", 0)
    assert history.records == []
    assert read_history(tmp_path / "none.jsonl").records == []
