"""What lies at an address is read as if it lay here, from a copy that is made once."""

from __future__ import annotations

import builtins
import io
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from coterie.data import labels_of, open_source
from coterie.data.addresses import copied, is_address, local
from coterie.data.originals import lies_at, originals_of
from coterie.data.parted import parted
from coterie.data.picture_form import Options
from coterie.pipeline import run
from coterie.training.plan import RunSettings
from coterie.types import InputError

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def as_npy(rows: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A place in fsspec's memory, emptied; copies lie below tmp_path."""
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path / "data"))
    place = fsspec.filesystem("memory")
    place.store.clear()
    place.pseudo_dirs[:] = [""]
    yield place
    place.store.clear()


def copies(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / "addresses").iterdir())


def test_a_file_is_copied_once_and_anew_when_it_changes(there, tmp_path):
    there.pipe("/bucket/rows.npy", as_npy(ROWS))
    first = open_source("memory://bucket/rows.npy")
    assert first.origin == "memory://bucket/rows.npy"
    assert first.notes[0].startswith("1 file of memory://bucket/rows.npy (0.0 MB) was copied to ")
    again = open_source("memory://bucket/rows.npy")
    assert "the copy of an earlier command" in again.notes[0]
    assert again.fingerprint == first.fingerprint == open_source(ROWS).fingerprint
    assert len(copies(tmp_path)) == 1
    there.pipe("/bucket/rows.npy", as_npy(ROWS[:20]))
    assert len(open_source("memory://bucket/rows.npy").items) == 20
    assert len(copies(tmp_path)) == 2


def test_folders_of_pictures_and_of_tables_are_what_they_are_here(there):
    for seed in range(3):
        there.pipe(f"/photos/deep/{seed}.png", png(seed))
    there.pipe("/photos/.hidden/x.png", png(9))
    source = open_source("memory://photos/")
    assert list(source.ids) == ["deep/0.png", "deep/1.png", "deep/2.png"]
    record = {"source": {"kind": "images", "origin": "memory://photos/", "path": local("memory://photos/")}}
    assert originals_of(record, source.ids).read("deep/1.png") == png(1)
    import pyarrow as pa

    table = pa.table({**{f"f{place}": ROWS[:, place] for place in range(4)}, "label": ["a", "b"] * 20})
    for number in range(2):
        buffer = io.BytesIO()
        pq.write_table(table.slice(20 * number, 20), buffer)
        there.pipe(f"/tables/{number}.parquet", buffer.getvalue())
    opened = open_source("memory://tables")
    assert np.array_equal(opened.items.array, ROWS)
    assert labels_of("memory://tables", opened.ids).codes.tolist() == [0, 1] * 20


def test_a_run_says_where_its_source_is_and_where_its_copy(there, tmp_path):
    there.pipe("/bucket/rows.npy", as_npy(ROWS))
    run("memory://bucket/rows.npy", RunSettings(n_clusters=2, method="kmeans", calibrate=False), tmp_path / "run")
    entry = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text(encoding="utf-8"))["source"]
    assert entry["origin"] == "memory://bucket/rows.npy"
    assert entry["path"] == str(copies(tmp_path)[0] / "rows.npy")
    assert lies_at(entry) == entry["path"]
    assert is_address(lies_at({"origin": "rows.npy", "path": "memory://bucket/rows.npy"})) is False
    assert is_address(lies_at({"origin": "memory://a/x.npy", "path": "memory://b/x.npy"})) is False
    there.pipe("/bucket/rows.npy", as_npy(ROWS + 1))
    settings = RunSettings(n_clusters=2, method="kmeans", calibrate=False)
    with pytest.raises(InputError, match="The data have changed"):
        run("memory://bucket/rows.npy", settings, tmp_path / "run", resume=True)


def test_parts_are_taken_from_the_copy(there):
    there.pipe("/bucket/rows.npy", as_npy(ROWS))
    like = open_source(ROWS).items.spec
    source = parted("memory://bucket/rows.npy", Options(like))
    assert np.array_equal(source.open(10, 15).items.array, ROWS[10:15])
    assert source.stamp == parted("memory://bucket/rows.npy", Options(like)).stamp
    assert "memory://bucket/rows.npy" in source.open(0, 5).notes[0]


def test_a_file_of_this_computer_is_not_copied(there, tmp_path):
    path = tmp_path / "a b.npy"
    np.save(path, ROWS)
    assert copied(path.as_uri()).path == path
    assert not (tmp_path / "data").exists()


def test_names_that_lead_elsewhere_and_copies_that_are_cut_are_refused(there, tmp_path, monkeypatch):
    there.pipe("/bucket/a.png", png(0))
    facts = there.find("/bucket", detail=True)
    mark = {"/bucket/deep/": {"name": "/bucket/deep/", "size": 0}}
    monkeypatch.setattr(there, "find", lambda path, detail: mark | facts)
    assert [path.name for path in copied("memory://bucket").path.iterdir()] == ["a.png"]
    for folder in copies(tmp_path):
        shutil.rmtree(folder)
    for name in ("/bucket/../../a.png", "/elsewhere/a.png", "/bucket//a.png"):
        bad = {name: {**facts["/bucket/a.png"], "name": name}}
        monkeypatch.setattr(there, "find", lambda path, detail, bad=bad: bad)
        with pytest.raises(InputError, match="is no path below it"):
            copied("memory://bucket")
    longer = {"/bucket/a.png": {**facts["/bucket/a.png"], "size": 10**4}}
    monkeypatch.setattr(there, "find", lambda path, detail: longer)
    with pytest.raises(InputError, match="came otherwise than"):
        copied("memory://bucket")
    assert copies(tmp_path) == []
    longer["/bucket/a.png"]["size"] = 10**18
    with pytest.raises(InputError, match="are free where it would be copied to"):
        copied("memory://bucket")


def test_a_missing_package_is_named(there, monkeypatch):
    def without(name, *args, **kwargs):
        if name.split(".")[0] == "s3fs":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(InputError, match=r"s3://bucket/x needs another package: Install s3fs"):
        copied("s3://bucket/x")


def test_what_was_typed_in_another_folder_is_the_path_that_it_meant_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "a" / "rows.npy"
    rows.parent.mkdir()
    rows.write_bytes(b"")
    entry = {"origin": "rows.npy", "path": str(rows)}
    monkeypatch.chdir(tmp_path)
    assert lies_at(entry) == str(rows)
    assert lies_at({"origin": "digits"}) == "digits"
    monkeypatch.chdir(rows.parent)
    assert lies_at(entry) == "rows.npy"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "rows.npy").write_bytes(b"others of the same name")
    monkeypatch.chdir(tmp_path / "b")
    assert lies_at(entry) == str(rows)
    rows.unlink()
    assert lies_at(entry) == "rows.npy"  # the folder may have moved with its run
