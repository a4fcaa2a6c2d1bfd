"""A prediction in parts is the prediction in one piece, whatever the source, wherever it was stopped."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from coterie.encoders import open_items
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result, table_of, write_result
from coterie.records.recalibration import FILE
from coterie.scaling import partitions
from coterie.scaling.engines import Task, engine_called, here
from coterie.scaling.partitions import Cut, cut
from coterie.scaling.predicting import Asked, predict_parts
from coterie.types import InputError, ItemSpec

RNG = np.random.default_rng(1)
ROWS = RNG.normal(size=(70, 8)).astype(np.float32)
PIXELS = RNG.integers(0, 256, (75, 8, 8), dtype=np.uint8)


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """Parts of 32 items."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "BYTES", 1)
        patch.setattr(partitions, "STEP", 32)
        yield


def in_one_piece(run: Path, source: str, *scores: str) -> pa.Table:
    model = load_model(run)
    opened = open_items(source, like=model.spec)
    return table_of(model.predict(opened, embedding=True, ood_scores=scores))


def as_rows(path: Path) -> None:
    np.save(path.with_suffix(".npy"), ROWS)


def as_list_column(path: Path) -> None:
    table = pa.table({"id": [f"i{row}" for row in range(70)], "features": list(ROWS)})
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=19)


def as_columns(path: Path) -> None:
    table = pa.table({f"f{column}": ROWS[:, column].astype(np.float64) for column in range(8)})
    pq.write_table(table, path.with_suffix(".parquet"))


def as_npz(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), x=ROWS)


def as_pixels(path: Path) -> None:
    np.save(path.with_suffix(".npy"), PIXELS)


def as_floats(path: Path) -> None:
    np.save(path.with_suffix(".npy"), (PIXELS / 255).astype(np.float32))


def as_folder(path: Path) -> None:
    for row, image in enumerate(PIXELS):
        place = path.with_suffix("") / f"{row % 7}" / f"{row:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    (path.with_suffix("") / "3" / "broken.png").write_bytes(b"no picture")


def as_picture_table(path: Path) -> None:
    as_folder(path)
    cells = [{"bytes": file.read_bytes()} for file in sorted(path.with_suffix("").rglob("*.png"))]
    pq.write_table(pa.table({"image": cells}), path.with_suffix(".parquet"), row_group_size=10)


def as_several_tables(path: Path) -> None:
    as_columns(path)
    whole = pq.read_table(path.with_suffix(".parquet"))
    path.with_suffix("").mkdir()
    for number, (start, stop) in enumerate([(0, 5), (5, 50), (50, 70)]):
        pq.write_table(whole.slice(start, stop - start), path.with_suffix("") / f"{number}.parquet", row_group_size=9)


FORMS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    ".npy of embeddings": ("of_rows", as_rows, ".npy"),
    "a list column": ("of_rows", as_list_column, ".parquet"),
    "columns of numbers": ("of_rows", as_columns, ".parquet"),
    "several tables": ("of_rows", as_several_tables, ""),
    ".npz": ("of_rows", as_npz, ".npz"),
    ".npy of bytes": ("of_pictures", as_pixels, ".npy"),
    ".npy of floats": ("of_pictures", as_floats, ".npy"),
    "a folder": ("of_pictures", as_folder, ""),
    "a table of pictures": ("of_pictures", as_picture_table, ".parquet"),
}


@pytest.mark.parametrize("form", FORMS)
def test_parts_and_one_piece_are_the_same_table(form: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    fixture, write, end = FORMS[form]
    run: Path = request.getfixturevalue(fixture)
    write(tmp_path / "data")
    source = str(tmp_path / f"data{end}")
    asked = Asked(run, source, "cpu", embedding=True, scores=("knn",))
    heard: list[tuple[int, int]] = []
    done = predict_parts(asked, tmp_path / "parts", progress=lambda *said: heard.append(said))
    assert len(done.parts.cut) == 3
    assert heard[-1][0] == heard[-1][1] == done.parts.cut.count
    assert len(done.skipped) == (1 if fixture == "of_pictures" and "bytes" not in form and "floats" not in form else 0)
    whole = tmp_path / os.fsdecode(b"whole\xff.parquet")  # a name that is no UTF-8
    done.parts.merge(whole)
    expected = in_one_piece(run, source, "knn")
    found = pq.read_table(io.BytesIO(whole.read_bytes()))
    assert found.equals(expected)
    assert found.schema.metadata == expected.schema.metadata
    assert len(read_result(whole).ids) == len(expected) == done.rows
    assert not (tmp_path / "parts").exists()


def test_floats_are_scaled_by_all_of_them_and_not_by_those_of_a_part(of_pictures: Path, tmp_path: Path) -> None:
    """The first 32 pictures alone would look like values from 0 to 1."""
    pixels = PIXELS.astype(np.float32)
    pixels[:32] = PIXELS[:32] % 2 * np.float32(0.9)
    np.save(tmp_path / "data.npy", pixels)
    done = predict_parts(Asked(of_pictures, str(tmp_path / "data.npy"), "cpu"), tmp_path / "parts")
    whole = in_one_piece(of_pictures, str(tmp_path / "data.npy")).drop_columns("embedding")
    assert pa.concat_tables(done.parts.tables()).equals(whole)


def dying(after: int, task: Task, numbers: Sequence[int]) -> Iterator[str]:
    """The engine of this process, which is stopped after so many parts."""
    yield from here(task, numbers[:after])
    raise KeyboardInterrupt


def test_what_was_stopped_goes_on_with_the_parts_that_are_there(of_rows: Path, tmp_path: Path) -> None:
    as_rows(tmp_path / "data")
    asked, folder = Asked(of_rows, str(tmp_path / "data.npy"), "cpu"), tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        predict_parts(asked, folder, functools.partial(dying, 2))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / ".part-000002.parquet.77.part").write_bytes(b"half")
    damaged = folder / "part-000001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with pytest.raises(InputError, match="holds parts of another prediction"):
        predict_parts(asked, folder)
    damaged.unlink()
    done = predict_parts(asked, folder)
    assert done.reused == 1
    assert (folder / "part-000000.parquet").stat().st_mtime_ns == before["part-000000.parquet"]
    assert pa.concat_tables(done.parts.tables()).equals(
        in_one_piece(of_rows, str(tmp_path / "data.npy")).drop_columns("embedding")
    )
    assert sorted(path.name for path in folder.iterdir()) == [f"part-00000{number}.parquet" for number in range(3)]


def test_pictures_that_were_away_for_a_while_are_predicted_when_they_are_back(
    of_pictures: Path, tmp_path: Path
) -> None:
    """Their part said for ever that they cannot be read, and the same command was refused again."""
    data, folder, away = tmp_path / "data", tmp_path / "parts", tmp_path / "away"
    as_folder(data)

    def leaving(task: Task, numbers: Sequence[int]) -> Iterator[str]:
        yield from here(task, numbers[:1])
        data.rename(away)
        yield from here(task, numbers[1:])

    asked = Asked(of_pictures, str(data), "cpu", embedding=True)
    with pytest.raises(InputError, match=r"cannot be read \(the first is .*: no such file or directory"):
        predict_parts(asked, folder, leaving)
    away.rename(data)
    done = predict_parts(asked, folder)
    assert done.reused == 1
    assert pa.concat_tables(done.parts.tables()).equals(in_one_piece(of_pictures, str(data)))
    assert predict_parts(asked, folder).reused == len(done.parts.cut)


def test_parts_of_another_job_or_strange_files_are_left_alone(of_rows: Path, tmp_path: Path) -> None:
    as_rows(tmp_path / "data")
    asked, folder = Asked(of_rows, str(tmp_path / "data.npy"), "cpu"), tmp_path / "parts"
    predict_parts(asked, folder)
    other = replace(asked, embedding=True)
    for asked_now in (other, replace(asked, scores=("energy",))):  # one column, whichever score is in it
        with pytest.raises(InputError, match="parts of another prediction"):
            predict_parts(asked_now, folder)
    done = predict_parts(other, folder, own=True)  # the command's own folder: they are made anew
    assert done.reused == 0
    (folder / "mine.txt").write_text("")
    with pytest.raises(InputError, match=r"holds 'mine\.txt', which is no part"):
        predict_parts(asked, folder, own=True)
    assert (folder / "mine.txt").exists()


def test_the_same_values_with_other_ids_are_another_prediction(of_rows: Path, tmp_path: Path) -> None:
    """The model knows no names of columns, so the table is opened as a whole and stands for its values."""
    columns = {f"f{column}": ROWS[:, column] for column in range(8)}
    for prefix in "ab":
        pq.write_table(pa.table({"id": [f"{prefix}{row}" for row in range(70)], **columns}), tmp_path / "rows.parquet")
        asked = Asked(of_rows, str(tmp_path / "rows.parquet"), "cpu")
        if prefix == "a":
            assert predict_parts(asked, tmp_path / "parts").reused == 0
    with pytest.raises(InputError, match="parts of another prediction"):
        predict_parts(asked, tmp_path / "parts")
    done = predict_parts(asked, tmp_path / "parts", own=True)
    assert next(done.parts.tables())["id"][0].as_py() == "b0"


def test_a_bad_value_is_named_by_its_row_in_the_source(of_rows: Path, tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[61, 3] = np.nan
    np.save(tmp_path / "data.npy", rows)
    with pytest.raises(InputError, match="NaN: row 61, column 3 of data"):
        predict_parts(Asked(of_rows, str(tmp_path / "data.npy"), "cpu"), tmp_path / "parts")
    lists = [row.tolist() for row in ROWS]
    lists[55] = lists[55][:5]
    pq.write_table(pa.table({"features": lists}), tmp_path / "data.parquet")
    with pytest.raises(InputError, match="Row 55 of"):
        predict_parts(Asked(of_rows, str(tmp_path / "data.parquet"), "cpu"), tmp_path / "others")


def test_what_does_not_fit_the_model_is_refused_before_any_part(
    of_rows: Path, of_pictures: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "wide.npy", RNG.normal(size=(300, 9)).astype(np.float32))
    for run, source, why in (
        (of_rows, tmp_path / "wide.npy", "9 features"),
        (of_pictures, tmp_path / "wide.npy", "holds embeddings"),
        (of_rows, tmp_path / "none.npy", "is no file"),
    ):
        with pytest.raises(InputError, match=why):
            predict_parts(Asked(run, str(source), "cpu"), tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_pictures_of_many_bits_and_too_many_that_cannot_be_read_are_refused(of_pictures: Path, tmp_path: Path) -> None:
    as_folder(tmp_path / "data")
    asked = Asked(of_pictures, str(tmp_path / "data"), "cpu")
    for row in range(20):
        (tmp_path / "data" / f"bad{row:03d}.png").write_bytes(b"no picture")
    for _ in range(2):  # what is there already counts
        with pytest.raises(InputError, match="of the 96 images in data cannot be read"):
            predict_parts(asked, tmp_path / "parts")
    for path in (tmp_path / "data").glob("bad*.png"):
        path.unlink()
    Image.fromarray(PIXELS[0].astype(np.uint16) * 257).save(tmp_path / "data" / "deep.png")
    with pytest.raises(InputError, match=r"deep\.png in .* has more than 8 bits"):
        predict_parts(asked, tmp_path / "others")


def test_one_picture_in_five_may_be_skipped_and_folders_that_cannot_be_listed_count(
    of_pictures: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for row in range(8):
        Image.fromarray(PIXELS[row]).save(data / f"{row}.png")
    (data / "bad.png").write_bytes(b"")
    (data / "system").symlink_to("/proc")
    asked = Asked(of_pictures, str(data), "cpu")
    done = predict_parts(asked, tmp_path / "parts")
    whole = open_items(str(data), like=load_model(of_pictures).spec)
    assert (
        sorted(item.id for item in done.skipped) == sorted(item.id for item in whole.skipped) == ["bad.png", "system/"]
    )
    (data / "7.png").unlink()
    with pytest.raises(InputError, match=r"2 of the 9 (images|items)"):
        predict_parts(asked, tmp_path / "others")


def test_a_part_without_a_readable_picture_is_a_part(of_pictures: Path, tmp_path: Path) -> None:
    as_folder(tmp_path / "data")
    for row in range(130):
        place = tmp_path / "data" / "9" / f"{row:04d}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS[row % 75]).save(place)
    for row in range(48):
        (tmp_path / "data" / f"-{row:03d}.png").write_bytes(b"")  # the first in the order of names
    asked = Asked(of_pictures, str(tmp_path / "data"), "cpu", embedding=True, scores=("knn",))
    done = predict_parts(asked, tmp_path / "parts")
    assert [part.rows for part in done.parts.all_done()][:2] == [0, 16]
    assert done.rows == 205
    whole = in_one_piece(of_pictures, str(tmp_path / "data"), "knn")
    assert pa.concat_tables(done.parts.tables()).equals(whole)
    assert pq.read_table(tmp_path / "parts").equals(whole)  # by the columns of the first file
    assert predict_parts(asked, tmp_path / "parts").reused == len(done.parts.cut)


@given(st.integers(1, 10**9), st.integers(1, 5000))
def test_the_cut_covers_every_item_once(count: int, dim: int) -> None:
    found = cut(count, ItemSpec("embeddings", dim=dim))
    assert found.range(0)[0] == 0
    assert found.range(len(found) - 1)[1] == count
    assert found.size % partitions.STEP == 0
    numbers = {0, len(found) // 2, len(found) - 1}
    assert all(found.range(number)[0] < found.range(number)[1] for number in numbers)
    assert all(found.range(number - 1)[1] == found.range(number)[0] for number in numbers if number)


def test_large_sources_are_cut_into_many_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "BYTES", 64 << 20)
    monkeypatch.setattr(partitions, "STEP", 256)
    assert cut(200_000, ItemSpec("embeddings", dim=384)) == Cut(200_000, 6400)
    assert cut(10**8, ItemSpec("embeddings", dim=384)).size * 4 * 384 <= 64 << 20
    assert cut(100, ItemSpec("images", channels=3, height=64, width=64)) == Cut(100, 256)


def test_engines_have_names_and_workers() -> None:
    assert engine_called("local") is here
    for name, workers, why in (("rya", None, "is local or ray"), ("local", 2, "has none"), ("ray", 0, "cannot work")):
        with pytest.raises(InputError, match=why):
            engine_called(name, workers)


def test_a_result_table_says_what_it_always_said(of_rows: Path, tmp_path: Path) -> None:
    as_rows(tmp_path / "data")
    model = load_model(of_rows)
    found = model.predict(open_items(str(tmp_path / "data.npy"), like=model.spec))
    write_result(tmp_path / "x.parquet", found)
    assert pq.read_table(tmp_path / "x.parquet").equals(table_of(found))
    assert json.loads(json.dumps(sorted(name.decode() for name in table_of(found).schema.metadata))) == [
        "coterie.heads",
        "coterie.k",
        "coterie.table",
    ]


def test_parts_by_another_correction_are_of_another_prediction(of_rows: Path, tmp_path: Path) -> None:
    """One table never has the confidences of two maps, nor corrected ones beside plain ones."""
    run = shutil.copytree(of_rows, tmp_path / "run")
    np.save(tmp_path / "rows.npy", ROWS)
    (run / FILE).write_text("{}")
    asked = Asked(run, str(tmp_path / "rows.npy"), after=lambda found: (found, 7))
    assert predict_parts(asked, tmp_path / "parts").parts.labels_used() == 7
    assert predict_parts(asked, tmp_path / "parts").reused == 3
    with pytest.raises(InputError, match="parts of another prediction"):
        predict_parts(replace(asked, after=None), tmp_path / "parts")
    (run / FILE).write_text('{"map": {}}')
    with pytest.raises(InputError, match="parts of another prediction"):
        predict_parts(asked, tmp_path / "parts")
