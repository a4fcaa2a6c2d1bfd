"""A folder of Parquet files is the one table that its files make."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coterie.data import labels_of, open_source
from coterie.data.originals import originals_of
from coterie.data.parquet import read_rows
from coterie.data.parquet_folder import Joined
from coterie.running.deciding import place_of
from coterie.types import InputError

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(30, 5)).astype(np.float32)
TRUTH = [["ant", "bee", "cat"][row % 3] for row in range(30)]


def columns() -> pa.Table:
    return pa.table({**{f"f{place}": ROWS[:, place] for place in range(5)}, "label": TRUTH})


def lists() -> pa.Table:
    return pa.table({"id": [f"item{row}" for row in range(30)], "features": list(ROWS), "label": TRUTH})


def pictures() -> pa.Table:
    cells = []
    for pixels in RNG.integers(0, 256, (30, 6, 7, 3), dtype=np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    return pa.table({"image": cells, "label": TRUTH})


def part(table: pa.Table, folder: Path, cuts: list[int], group: int = 4) -> None:
    folder.mkdir()
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(table)], strict=True)):
        pq.write_table(table.slice(start, stop - start), folder / f"part-{number:02d}.parquet", row_group_size=group)


@pytest.mark.parametrize("make", [columns, lists, pictures])
def test_it_is_the_table_that_its_files_make(tmp_path, make):
    table = make()
    pq.write_table(table, tmp_path / "one.parquet")
    part(table, tmp_path / "several", [4, 4, 21])  # the second file has no rows
    one, several = open_source(tmp_path / "one.parquet"), open_source(tmp_path / "several", memory_limit=0)
    assert several.fingerprint == one.fingerprint
    assert list(several.ids) == list(one.ids)
    assert several.items.spec == one.items.spec
    chosen = torch.randperm(30)
    assert torch.equal(several.items.take(chosen), one.items.take(chosen))
    found, known = labels_of(tmp_path / "several", several.ids), labels_of(tmp_path / "one.parquet", one.ids)
    assert found.names == known.names == ["ant", "bee", "cat"]
    assert (found.codes == known.codes).all()
    assert several.notes[0].startswith("4 files of ")
    assert "(part-00.parquet to part-03.parquet)" in several.notes[0]
    assert several.notes[1] == "1 of them have no rows (part-01.parquet)."


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_rows_and_any_row_group_are_those_of_the_whole(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut") / "x"
    cuts = sorted(data.draw(st.lists(st.integers(0, 30), max_size=3)))
    part(columns(), folder, cuts, data.draw(st.integers(1, 9)))
    file = Joined(folder)
    start, stop = sorted(data.draw(st.tuples(st.integers(0, 30), st.integers(0, 30))))
    rows = [batch.to_pydict()["f2"] for batch in read_rows(file, ["f2"], folder, range(start, stop))]
    assert [value for batch in rows for value in batch] == ROWS[start:stop, 2].tolist()
    groups = [file.read_row_group(place, columns=["f0"]) for place in range(file.metadata.num_row_groups)]
    assert [len(group) for group in groups] == [file.metadata.row_group(at).num_rows for at in range(len(groups))]
    assert pa.concat_tables(groups)["f0"].to_pylist() == ROWS[:, 0].tolist()
    assert file.metadata.num_rows == 30


def test_the_pictures_of_a_run_are_found_in_it(tmp_path):
    table = pictures()
    part(table, tmp_path / "x", [7])
    record = {"source": {"kind": "images", "path": str(tmp_path / "x"), "origin": "x", "spec": {"kind": "images"}}}
    found = originals_of(record, [str(row) for row in range(30)])
    assert found.kind == "cells"
    assert found.read("22") == table["image"][22]["bytes"].as_py()


def test_it_may_have_the_name_of_a_file_and_is_no_folder_of_pictures(tmp_path):
    part(pictures(), tmp_path / "x.parquet", [7])
    source = open_source(f"{tmp_path}/x.parquet/")
    assert source.name == "x"
    assert place_of(tmp_path / "x.parquet") == ""  # where embeddings would look for the files of their pictures
    assert place_of(tmp_path) == str(tmp_path.resolve())


def test_a_file_that_comes_or_changes_shows(tmp_path):
    part(columns(), tmp_path / "x", [10])
    before = open_source(tmp_path / "x").fingerprint
    pq.write_table(columns().slice(3, 1), tmp_path / "x" / "z.parquet")
    added = open_source(tmp_path / "x").fingerprint
    (tmp_path / "x" / "z.parquet").unlink()
    pq.write_table(columns().slice(0, 10), tmp_path / "x" / "part-01.parquet")
    assert len({before, added, open_source(tmp_path / "x").fingerprint}) == 3


def test_pictures_beside_tables_are_what_is_taken(tmp_path):
    part(columns(), tmp_path / "x", [10])
    for name in ("a.png", "b.png"):
        Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(tmp_path / "x" / name)
    source = open_source(tmp_path / "x")
    assert list(source.ids) == ["a.png", "b.png"]
    assert "2 files were left out: 2 .parquet (a source by itself)." in source.notes


def test_tables_in_sub_folders_alone_are_named_with_what_to_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("hub").mkdir()
    Path("years").mkdir()
    part(columns(), Path("hub", "data"), [10])
    Path("hub", "README.md").write_text("what this is", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"hub holds no images, but Parquet files in its folder data: give hub/data\.$"
    ):
        open_source("hub")
    for year in ("2020", "2021"):
        part(columns(), Path("years", year), [10])
    with pytest.raises(InputError, match=r"in 2 folders \(2020, 2021\): give one of them, or .*") as caught:
        open_source("years")
    exec("import pandas; " + str(caught.value).partition("of all: ")[2].rstrip("."))  # the advice works as it stands
    assert len(open_source("years.parquet").items) == 60
    Path("hub", "data", "run.yaml").touch()
    with pytest.raises(InputError, match=r"holds no images .*2 \.parquet"):
        open_source("hub")


def test_marks_of_other_programs_are_passed_over_and_other_files_are_named(tmp_path):
    part(columns(), tmp_path / "x", [10])
    for name in ("_SUCCESS", ".part-00.parquet.crc", "_metadata.parquet"):
        (tmp_path / "x" / name).write_bytes(b"")
    (tmp_path / "x" / "README.md").write_text("what this is", encoding="utf-8")
    source = open_source(tmp_path / "x")
    assert len(source.items) == 30
    assert any(note.startswith("1 other files and folders of ") and "1 .md" in note for note in source.notes)


OTHER = {
    "it lacks f1 and it has g1 besides": lambda table: table.rename_columns(["f0", "g1", "f2", "f3", "f4", "label"]),
    "its columns stand in another order": lambda table: table.select(["f1", "f0", "f2", "f3", "f4", "label"]),
    "its column f0 is of type double, not float": lambda table: table.set_column(
        0, "f0", table["f0"].cast(pa.float64())
    ),
}


@pytest.mark.parametrize("why", OTHER)
def test_a_file_of_another_form_is_refused(tmp_path, why):
    part(columns(), tmp_path / "x", [10])
    pq.write_table(OTHER[why](columns()), tmp_path / "x" / "z.parquet")
    with pytest.raises(InputError, match=f"z.parquet does not fit part-00.parquet in the same folder: {why}"):
        open_source(tmp_path / "x")


def test_what_is_no_table_is_refused_by_its_name(tmp_path):
    part(columns(), tmp_path / "x", [10])
    whole = (tmp_path / "x" / "part-01.parquet").read_bytes()
    for content in (b"", b"no table", whole[:-20]):
        (tmp_path / "x" / "part-01.parquet").write_bytes(content)
        with pytest.raises(InputError, match=r"part-01.parquet cannot be read as a parquet file"):
            open_source(tmp_path / "x")


def test_tables_in_sub_folders_and_tables_without_rows_are_refused(tmp_path):
    part(columns(), tmp_path / "x", [10])
    part(columns(), tmp_path / "x" / "split=test", [])
    with pytest.raises(InputError, match="a folder with more of them \\(split=test\\): give one folder"):
        open_source(tmp_path / "x")
    part(columns().slice(0, 0), tmp_path / "y", [])
    with pytest.raises(InputError, match="y has no rows"):
        open_source(tmp_path / "y")


def test_columns_can_be_chosen(tmp_path):
    part(columns(), tmp_path / "x", [10])
    source = open_source(tmp_path / "x", columns="f0..f2")
    assert torch.equal(source.items.take(torch.arange(30)), torch.from_numpy(ROWS[:, :3]))


def test_a_run_in_the_folder_is_no_part_of_the_table(tmp_path):
    part(columns(), tmp_path / "parts", [15])
    run = tmp_path / "parts" / "run"
    run.mkdir()
    (run / "run.yaml").write_text("version: 1\n")
    pq.write_table(columns(), run / "result.parquet")
    assert len(open_source(tmp_path / "parts").items) == 30
