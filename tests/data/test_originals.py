"""The pictures of a finished run, found again by their ids: files of any name, cells of a table, pixels of an array."""

from __future__ import annotations

import io
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from coterie.data import open_source
from coterie.data.folders import ids_of
from coterie.data.originals import Originals, absolute_path, lies_at, originals_of, suffix_of
from coterie.types import InputError


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def record_of(source: object) -> dict:
    """What `run.yaml` says of a source."""
    opened = open_source(source)
    entry = {"origin": opened.origin, "path": absolute_path(source), "spec": asdict(opened.items.spec)}
    entry["fingerprint"] = opened.fingerprint
    return {"source": entry, "ids": list(opened.ids)}


def found(record: dict, given: str | None = None) -> Originals:
    return originals_of(record, record["ids"], given)


def test_files_of_any_name_are_found_by_their_ids(tmp_path, monkeypatch):
    names = [b"a.png", b"x\xff.png", b"x\\xff.png", b"new\nline.png", b"=cmd.png", "ü.png".encode(), b" blank .png"]
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for shade, name in enumerate(names):
        Path(os.fsdecode(bytes(tmp_path) + b"/photos/sub/" + name)).write_bytes(picture(shade))
    monkeypatch.chdir(tmp_path)
    record = record_of("photos")
    assert len(set(record["ids"])) == len(names)
    monkeypatch.chdir("/")  # the record holds the absolute path
    originals = found(record)
    seen = set()
    for item in record["ids"]:
        assert originals.has(item)
        assert originals.path is not None
        assert originals.path(item).read_bytes() == originals.read(item)
        with originals.open(item) as image:
            seen.add(image.convert("RGB").getpixel((0, 0)))
    assert len(seen) == len(names)


def test_a_folder_whose_name_is_not_utf8_is_found_again(tmp_path, monkeypatch):
    folder = os.fsdecode(bytes(tmp_path) + b"/photos\xff")
    os.mkdir(folder)
    for shade in range(2):
        Path(folder, f"{shade}.png").write_bytes(picture(shade))
    monkeypatch.chdir(tmp_path)
    entry = record_of(os.path.basename(folder))["source"]
    assert entry["origin"] == r"photos\xff"
    assert lies_at(entry) == folder


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=6).map(os.fsdecode), unique=True, max_size=8))
def test_ids_differ_as_their_files_do(names):
    assert len(set(ids_of(names))) == len(names)


def test_a_literal_escape_and_the_byte_that_it_means_are_two_ids():
    first, second = ids_of([os.fsdecode(b"x\xff.png"), "x\\xff.png"])
    assert second == "x\\xff.png"
    assert first.startswith("x\\xff.png~")
    assert ids_of([os.fsdecode(b"x\xff.png")]) == ["x\\xff.png"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.binary(min_size=1, max_size=8).filter(lambda name: not {b"\0", b"/"} & {bytes([b]) for b in name}))
def test_the_path_in_the_record_comes_back(tmp_path, name):
    folder = tmp_path / os.fsdecode(b"d" + name)
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_bytes(picture(1))
    text = absolute_path(os.fsdecode(folder))
    assert text is not None
    assert text.isprintable()
    text.encode()
    record = {"source": {"path": text, "spec": {"kind": "images"}}}
    assert originals_of(record, ["a.png"]).read("a.png") == picture(1)


def test_cells_of_a_table(tmp_path):
    path = tmp_path / "photos.parquet"
    cells = [{"bytes": picture(shade), "path": None} for shade in range(5)]
    pq.write_table(pa.table({"id": [f"n{row}" for row in range(5)], "image": cells}), path, row_group_size=2)
    originals = found(record_of(str(path)))
    assert originals.kind == "cells"
    assert [originals.read(f"n{row}") for row in range(5)] == [picture(row) for row in range(5)]
    assert not originals.has("n9")
    assert suffix_of(originals.read("n0")) == ".png"


def test_cells_that_have_names_may_stand_beside_new_ones(tmp_path):
    path = tmp_path / "photos.parquet"

    def write(rows, names):
        cells = [{"bytes": picture(row), "path": None} for row in rows]
        pq.write_table(pa.table({"image": cells} | ({"id": [f"n{row}" for row in rows]} if names else {})), path)

    write(range(3), names=True)
    record = record_of(str(path))
    write(range(4)[::-1], names=True)
    assert found(record).read("n2") == picture(2)
    write(range(3), names=False)
    record = record_of(str(path))
    assert found(record).read("2") == picture(2)
    write([0, 2, 1], names=False)
    with pytest.raises(InputError, match="has changed since the run was fitted, and its pictures are known by"):
        found(record)


def test_pixels_of_an_array_that_is_another_now_are_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    record = record_of(str(tmp_path / "pixels.npy"))
    assert found(record).has("3")
    np.save(tmp_path / "pixels.npy", pixels[::-1])
    with pytest.raises(InputError, match="has changed since the run was fitted, and its pictures are known by"):
        found(record)


def test_pixels_of_an_array(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    originals = found(record_of(str(tmp_path / "pixels.npy")))
    assert originals.kind == "pixels"
    assert (np.asarray(originals.open("3")) == pixels[3]).all()


def test_a_named_set_needs_no_path():
    record = record_of("digits")
    assert record["source"]["path"] is None
    with found(record).open("7") as image:
        assert image.size == (8, 8)


def test_photos_that_moved_are_found_by_source(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "old" / name).write_bytes(picture(len(name)))
    record = record_of(str(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(InputError, match=r"not where they were \(.*old\): say where with --source"):
        found(record)
    assert found(record, str(tmp_path / "new")).has("a.png")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"None of the run's pictures is in"):
        found(record, str(tmp_path / "other"))


def test_a_list_of_paths_is_found_from_its_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(picture(3))
    record = record_of(["a.png", "b.png"])
    monkeypatch.chdir("/")
    assert found(record).read("b.png") == picture(3)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"spec": {"kind": "embeddings"}}, "embeddings, which have no pictures"),
        ({"spec": {"kind": "images"}, "origin": "array of shape (9, 8, 8) and dtype uint8"}, "in memory"),
        ({"spec": {"kind": "images"}, "origin": "gone"}, "say where with --source"),
    ],
)
def test_sources_without_pictures_say_so(source, says):
    with pytest.raises(InputError, match=says):
        originals_of({"source": source}, ["a"])


def test_a_pipe_in_a_picture_s_place_is_not_waited_for(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    record = record_of(str(tmp_path))
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    originals = found(record)
    assert not originals.has("b.png")
    with pytest.raises(InputError, match="named pipe"):
        originals.read("b.png")
