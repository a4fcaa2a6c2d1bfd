"""Pictures that are others than a run saw, by the times of their files and the fingerprint of its data."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coterie.data import open_source
from coterie.data.originals import absolute_path, originals_of
from data.test_originals import picture

LATER = 3600.0  # seconds from now: whatever the test writes is older than this fit


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for shade in range(6):
        (tmp_path / "photos" / f"{shade}.png").write_bytes(picture(shade))
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def changed(source: Path, record: dict) -> str | None:
    return originals_of(record, record["ids"], str(source)).changed()


def record_of(source: Path, read_at: float) -> dict:
    opened = open_source(source, max_skipped=0.5)
    entry = {"origin": opened.origin, "path": absolute_path(source), "spec": asdict(opened.items.spec)}
    entry |= {"fingerprint": opened.fingerprint, "skipped": [asdict(item) for item in opened.skipped]}
    return {"source": {**entry, "read_at": read_at}, "ids": list(opened.ids)}


def replace(path: Path, content: bytes, at: float) -> None:
    path.write_bytes(content)
    os.utime(path, (at, at))


def test_files_that_are_as_they_were(photos):
    record = record_of(photos, time.time() + LATER)
    assert changed(photos, record) is None
    record["source"]["read_at"] -= 2 * LATER  # all have other times, as after a copy, but the same content
    assert changed(photos, record) is None
    (photos / "new.png").write_bytes(picture(99))
    assert changed(photos, record) is None
    del record["source"]["read_at"]  # a run of an older version
    replace(photos / "3.png", picture(77), time.time())
    assert changed(photos, record) is None


def test_replaced_files_are_counted_and_the_first_is_named(photos):
    record = record_of(photos, time.time() + LATER)
    for name in ("3.png", "4.png"):
        replace(photos / name, picture(77), time.time() + 2 * LATER)
    said = changed(photos, record)
    assert said is not None
    assert "2 of 6 pictures were written since the run was fitted, the first is 3.png: their group is that" in said
    (photos / "1.png").unlink()  # then the content cannot be compared
    said = changed(photos, record)
    assert said is not None
    assert "the first is 3.png: their group may be that" in said


def test_more_pictures_than_are_read_may_be_copies(photos, monkeypatch):
    record = record_of(photos, time.time() + LATER)
    for path in photos.iterdir():
        os.utime(path, (time.time() + 2 * LATER,) * 2)
    assert changed(photos, record) is None
    monkeypatch.setattr("coterie.data.changed.READ_AT_MOST", sum(path.stat().st_size for path in photos.iterdir()) // 2)
    said = changed(photos, record)
    assert said is not None
    assert "6 of 6 pictures were written since the run was fitted" in said
    assert "their group may be that of another picture" in said


def test_files_that_changed_names_keep_their_times(photos):
    record = record_of(photos, time.time() - LATER)
    old = time.time() - 2 * LATER
    for path in photos.iterdir():
        os.utime(path, (old, old))
    assert changed(photos, record) is None
    (photos / "1.png").rename(photos / "x")
    (photos / "2.png").rename(photos / "1.png")
    (photos / "x").rename(photos / "2.png")
    said = changed(photos, record)
    assert said is not None
    assert "exchanged" in said


def test_a_table_whose_rows_have_names(tmp_path):
    path = tmp_path / "t.parquet"

    def write(shades: list[int], *, turned: bool = False) -> None:
        cells = [{"bytes": picture(shade), "path": None} for shade in shades]
        table = pa.table({"id": [f"i{row}" for row in range(len(shades))], "image": cells})
        pq.write_table(table.take(list(range(len(shades)))[::-1]) if turned else table, path)

    write([1, 2, 3])
    record = record_of(path, time.time())
    assert changed(path, record) is None
    write([1, 2, 3, 4])
    assert changed(path, record) is None
    write([1, 2, 3], turned=True)
    assert changed(path, record) is None
    write([1, 5, 3, 4])
    said = changed(path, record)
    assert said is not None
    assert said.startswith(f"{path} has changed since the run was fitted")
