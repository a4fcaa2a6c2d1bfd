from __future__ import annotations

import io
import json
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from coterie.data import labels_of, open_source
from coterie.data.extensions import extensions
from coterie.data.table_numbers import list_column
from coterie.data.whole_numbers import Ends
from coterie.types import InputError, ItemSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (25, 12, 10, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def image_table(**columns) -> pa.Table:
    cells = [{"bytes": encoded(image), "path": f"{row}.png"} for row, image in enumerate(PIXELS)]
    return pa.table({"image": cells, **columns})


@pytest.mark.parametrize("limit", [0, 1 << 30])
@pytest.mark.parametrize("plain", [False, True])
def test_encoded_images_are_taken_in_any_order(tmp_path, limit, plain):
    table = image_table()
    if plain:
        table = pa.table({"image": [cell["bytes"] for cell in table["image"].to_pylist()]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    source = open_source(tmp_path / "x.parquet", memory_limit=limit)
    index = torch.randperm(25)
    assert np.array_equal(source.items.take(index).numpy(), PIXELS[index.numpy()].transpose(0, 3, 1, 2))
    assert list(source.ids) == [str(row) for row in range(25)]
    assert source.items.spec == ItemSpec("images", 3, 12, 10)


def test_bad_cells_are_skipped_and_ids_and_labels_stay_aligned(tmp_path):
    cells = image_table()["image"].to_pylist()
    cells[3]["bytes"], cells[5], cells[7]["bytes"] = b"no image", None, None
    names = [f"item{row}" for row in range(25)]
    codes = [row % 3 for row in range(25)]
    table = pa.table(
        {"image": cells, "id": names, "label": codes, "label_name": [["x", "y", "z"][code] for code in codes]}
    )
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    source = open_source(path)
    assert {item.id: item.reason for item in source.skipped} == {
        "item3": "not an image",
        "item5": "no bytes in this row",
        "item7": "no bytes in this row",
    }
    labels = labels_of(path, source.ids)
    assert [f"item{row}" for row in range(25) if row not in (3, 5, 7)] == list(source.ids)
    assert labels.codes.tolist() == [row % 3 for row in range(25) if row not in (3, 5, 7)]
    assert labels.names == ["x", "y", "z"]
    with pytest.raises(InputError, match=r"3 of the 25 images in the table .*item3: not an image"):
        open_source(path, max_skipped=0.1)


def test_names_of_labels_that_are_not_one_to_one(tmp_path):
    table = pa.table({"x": [0.5, 1.0, 1.5], "y": [3.0, 2.0, 1.0], "label": [0, 3, 3]})
    path = tmp_path / "x.parquet"
    pq.write_table(table.append_column("label_name", [["rose", "rose", "rose"]]), path)
    assert labels_of(path, ["0", "1", "2"], column="label").names == ["rose (0)", "rose (3)"]
    pq.write_table(table.append_column("label_name", [["rose", "tulip", "lily"]]), path)
    with pytest.raises(InputError, match=r"Label 3 of .* is called 'tulip' and 'lily' in its column label_name"):
        labels_of(path, ["0", "1", "2"], column="label")


def test_labels_do_not_change_the_source_and_hugging_face_names_are_read(tmp_path):
    plain, labelled = tmp_path / "plain.parquet", tmp_path / "labelled.parquet"
    pq.write_table(image_table(), plain)
    facts = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = image_table(label=[row % 2 for row in range(24)] + [-1])
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(facts)}), labelled)
    assert open_source(plain).fingerprint == open_source(labelled).fingerprint
    labels = labels_of(labelled, open_source(labelled).ids)
    assert labels.names == ["cat", "dog"]
    assert labels.codes.tolist() == [row % 2 for row in range(24)] + [-1]
    assert labels_of(plain, open_source(plain).ids) is None


VECTORS = np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32)


@pytest.mark.parametrize("name", ["embedding", "features", "vector", "clip L/14"])
@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 6)])
def test_list_columns_are_embeddings(tmp_path, name, kind):
    table = pa.table({name: pa.array(VECTORS.tolist(), kind), "path": [f"p{row}" for row in range(20)], "n": range(20)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=7)
    source = open_source(tmp_path / "x.parquet")
    assert np.array_equal(source.items.take(torch.arange(20)).numpy(), VECTORS)
    assert list(source.ids) == [f"p{row}" for row in range(20)]


def test_numeric_columns_are_embeddings_without_what_is_no_feature(tmp_path):
    columns = {f"f{place}": VECTORS[:, place] for place in range(6)}
    table = pa.table({**columns, "label": [row % 4 for row in range(20)], "id": [7] * 20, "note": ["x"] * 20})
    pq.write_table(table, tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    assert np.array_equal(source.items.take(torch.arange(20)).numpy(), VECTORS)
    assert any("left out: note" in note for note in source.notes)
    assert any("Column id has empty or repeated values" in note for note in source.notes)
    assert labels_of(tmp_path / "x.parquet", source.ids).codes.tolist() == [row % 4 for row in range(20)]


NUMBERS = [19 - row for row in range(20)]
TEXTS = [f"{number:03}" for number in NUMBERS]


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array(TEXTS).dictionary_encode(), TEXTS),
        (pa.array(TEXTS, pa.string_view()), TEXTS),
        (np.array(NUMBERS, np.float64), [str(number) for number in NUMBERS]),
        (pa.array([Decimal(number) for number in NUMBERS]), [str(number) for number in NUMBERS]),
        (np.array(NUMBERS) + 2**60, [str(number + 2**60) for number in NUMBERS]),
    ],
)
def test_names_of_rows_in_every_type(tmp_path, column, ids):
    try:
        source = opened(tmp_path / "t.parquet", {"id": column, **FLOATS})
    except pa.ArrowNotImplementedError:
        pytest.skip("an older pyarrow writes no views of texts")
    assert list(source.ids) == ids
    assert not any("number" in note for note in source.notes)


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("id", np.array(NUMBERS) + 0.5, "Column id is of type double, which names no rows"),
        ("id", pa.array([datetime(2020, 1, 1 + number) for number in NUMBERS]), r"Column id is of type timestamp"),
        ("id", ["", *TEXTS[1:]], "Column id has empty or repeated values"),
        ("id", ["018 ", *TEXTS[1:]], "Column id has empty or repeated values"),
        ("id", [None, *map(float, NUMBERS[1:])], "Column id has empty or repeated values"),
        ("image_id", TEXTS, "Rows go by their number, and not by image_id"),
    ],
)
def test_what_names_no_rows_is_said(tmp_path, name, column, message):
    source = opened(tmp_path / "t.parquet", {name: column, **FLOATS})
    assert list(source.ids) == [str(row) for row in range(20)]
    assert any(re.match(message, note) for note in source.notes)


def test_wrong_tables_get_one_sentence(tmp_path):
    path = tmp_path / "x.parquet"
    ragged = [[1.0, 2.0], [3.0, 4.0], [5.0]]
    for table, message in [
        (pa.table({"embedding": ragged}), "Row 2 of .* has no embedding of 2 numbers"),
        (pa.table({"embedding": [[1.0, 2.0], None]}), "Row 1 of .* has no embedding"),
        (pa.table({"embedding": [[1.0, 2.0], [3.0, None]]}), "NaN: row 1, column 1"),
        (pa.table({"a": [0.5, None, 3.0], "b": [1.0, 2.0, 3.0]}), "NaN: row 1, column a"),
        (pa.table({"text": ["a", "b"]}), "has neither a column of images .*it has text"),
        (pa.table({"a": pa.array([], pa.float32())}), "has no rows"),
    ]:
        pq.write_table(table, path)
        with pytest.raises(InputError, match=message):
            open_source(path)
    path.write_text("no table")
    with pytest.raises(InputError, match="cannot be read as a parquet file"):
        open_source(path)


FLOATS = {f"f{place}": VECTORS[:, place] for place in range(6)}
CODES = np.arange(20) % 4


def opened(path, table, **options):
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path)
    return open_source(path, **options)


def values(source):
    return source.items.take(torch.arange(len(source.items))).numpy()


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"id": range(20), "Label": CODES},
        {"target": CODES.astype(float), "split": ["train"] * 20},
        {"y": CODES, "name": ["a"] * 20},
        {"class_name": ["a", "b"] * 10, "path": [f"{row}.png" for row in range(20)]},
    ],
)
def test_numbered_floats_beside_labels_and_ids_are_plain(tmp_path, others):
    source = opened(tmp_path / "x.parquet", {**others, **FLOATS})
    assert np.array_equal(values(source), VECTORS)
    assert source.items.spec.columns == tuple(FLOATS)
    assert source.notes[0] == "Features: 6 columns, f0 to f5."
    held = [note for note in source.notes if note.startswith("Held apart as labels")]
    assert len(held) == bool(set(others) & {"Label", "target", "y", "class_name"})


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ({"Unnamed: 0": range(20)}, ("float columns f0 to f5,", "integer column Unnamed: 0")),
        ({"image_id": range(20), "width": CODES}, ("integer columns image_id, width",)),
        ({"species_id": CODES, "targets": CODES}, ("integer column species_id",)),
        ({"fine_label": CODES.astype(float)}, ("fine_label, f0 to f5 (6)",)),
        ({"__index_level_0__": range(20)}, ("__index_level_0__",)),
        ({"quality": VECTORS[:, 0]}, ("quality, f0 to f5 (6)",)),
        ({"seen": CODES > 1}, ("boolean column seen",)),
        ({f"prob_{group}": VECTORS[:, group] for group in range(3)}, ("f0 to f5 (6)", "prob_0 to prob_2 (3)")),
        (
            {"class_0": CODES == 0, "class_1": CODES == 1, "class_2": CODES == 2},
            ("boolean columns class_0 to class_2",),
        ),
    ],
)
def test_columns_that_may_be_no_features_are_refused_with_what_was_found(tmp_path, others, found):
    path = tmp_path / "x.parquet"
    with pytest.raises(InputError, match="unclear which columns") as refused:
        opened(path, {**others, **FLOATS})
    for said in found:
        assert said in str(refused.value)
    assert "--columns 'f0..f5'" in str(refused.value)
    for asked in ("f0..f5", "f*", "f0,f1,f2,f3..f5", list(FLOATS)):
        source = open_source(path, columns=asked)
        assert np.array_equal(values(source), VECTORS)
        assert source.items.spec.chosen


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["f0", "f1", "f2", "f3", "f6"], "f0 to f3 (4), f6"),
        (["f5", "f10", "f4", "f9", "f3", "f8"], "f3 to f5 (3), f8 to f10 (3)"),
        (["f1", "f10", "f2", *(f"f{place}" for place in range(3, 10))], "f1 to f10"),
        (["w400", "w405", "w410", "w415"], "w400 to w415"),
        (["0x0", "0x1", "1x0", "1x1"], "0x0 to 1x1"),
        (["prob_0", "prob_1", "prob_2"], "prob_0 to prob_2"),
    ],
)
def test_the_note_names_no_column_that_was_not_taken(tmp_path, names, said):
    columns = dict.fromkeys(names, VECTORS[:, 0])
    source = opened(tmp_path / "x.parquet", columns)
    assert source.notes[0] == f"Features: {len(names)} columns, {said}."


@pytest.mark.parametrize(
    "table",
    [
        {"a": CODES, "b": CODES},
        {"embedding": VECTORS.tolist(), "embedding_old": VECTORS.tolist()},
        {"x": VECTORS[:, 0], "y": VECTORS[:, 1]},
        {"one": [{"bytes": encoded(PIXELS[0])}] * 20, "two": [encoded(PIXELS[0])] * 20},
    ],
)
def test_two_that_may_be_it_are_refused(tmp_path, table):
    with pytest.raises(InputError, match=r"unclear which columns .* --columns"):
        opened(tmp_path / "x.parquet", table)
    first = next(iter(table))
    assert opened(tmp_path / "x.parquet", table, columns=first).items.spec.columns in ((first,), ())


@pytest.mark.parametrize(
    "names",
    [
        [f"pixel{place}" for place in range(6)],
        [f"{place // 3}x{place % 3}" for place in range(6)],
        ["0", "1", "2", "3", "4", "5"],
        ["r1", "r2", "r3", "g1", "g2", "g3"],
    ],
)
def test_whole_numbers_are_features_where_their_names_are_numbered(tmp_path, names):
    numbers = np.random.default_rng(0).integers(0, 256, (20, 6))
    source = opened(tmp_path / "x.parquet", dict(zip(names, numbers.T, strict=True)) | {"label": CODES})
    assert np.array_equal(values(source), numbers)


def test_floats_under_any_names_are_features(tmp_path):
    names = ["sepal length", "sepal width", "petal length", "petal width", "depth", "mass"]
    source = opened(tmp_path / "x.parquet", dict(zip(names, VECTORS.T, strict=True)) | {"species": ["a", "b"] * 10})
    assert np.array_equal(values(source), VECTORS)
    assert labels_of(tmp_path / "x.parquet", source.ids).names == ["a", "b"]


@pytest.mark.parametrize("index", [None, "shuffled", "named", "text", "two"])
def test_the_index_of_pandas_is_no_feature(tmp_path, index):
    frame = pd.DataFrame(FLOATS).assign(label=CODES)
    if index is not None:
        frame = frame.sample(frac=1, random_state=0)
    if index == "named":
        frame = frame.rename_axis("observation")
    if index == "text":
        frame.index = [f"row {row}" for row in frame.index]
    if index == "two":
        frame = frame.set_index([frame.index, np.arange(20)])
    frame.to_parquet(tmp_path / "x.parquet")
    table = pa.Table.from_pandas(frame.drop(columns="label"))
    for given in (tmp_path / "x.parquet", table, table.to_batches()[0]):
        source = open_source(given)
        assert np.array_equal(values(source), frame[list(FLOATS)].to_numpy())
        assert any("index of pandas' table" in note for note in source.notes) == (index is not None)
        assert np.array_equal(values(open_source(given, like=source.items.spec)), values(source))


def test_pictures_are_found_under_any_name(tmp_path):
    cells = image_table()["image"].to_pylist()
    sounds = [{"bytes": b"OggS", "path": "a.ogg"}] * 25
    codes = {"fine_label": np.arange(25) % 5, "coarse_label": np.arange(25) % 2}
    for column in (cells, [cell["bytes"] for cell in cells]):
        source = opened(tmp_path / "x.parquet", {"sound": sounds, "img": column, **codes})
        assert np.array_equal(values(source), PIXELS.transpose(0, 3, 1, 2))
        assert "Pictures: column img." in source.notes
        with pytest.raises(InputError, match="fine_label and coarse_label"):
            labels_of(tmp_path / "x.parquet", source.ids)
        assert (
            labels_of(tmp_path / "x.parquet", source.ids, "coarse_label").codes.tolist()
            == codes["coarse_label"].tolist()
        )
    with pytest.raises(InputError, match="neither a column of images"):
        opened(tmp_path / "x.parquet", {"sound": sounds})


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000", "WEBP", "AVIF"])
def test_pictures_of_every_format_are_found_beside_sounds(tmp_path, kind):
    if kind == "AVIF" and ".avif" not in extensions():
        pytest.skip("this Pillow reads no AVIF")
    cells = [None, b"damaged", *(encoded(image, kind) for image in PIXELS)]
    sounds = [b"RIFF\x24\0\0\0WAVEfmt "] * len(cells)
    source = opened(tmp_path / "x.parquet", {"sound": sounds, "photo": cells})
    assert (len(source.items), len(source.skipped)) == (len(PIXELS), 2)
    with pytest.raises(InputError, match="it has image, and image holds no bytes of pictures"):
        opened(tmp_path / "x.parquet", {"image": ["a.png", "b.png"]})


@pytest.mark.parametrize(
    "column",
    [
        pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS),
        pa.array(list(VECTORS.astype(np.float16)), pa.list_(pa.float16())),
        pa.array((VECTORS * 8).astype(int).tolist(), pa.list_(pa.int8(), 6)),
    ],
)
def test_list_columns_of_other_types(tmp_path, column):
    source = opened(tmp_path / "x.parquet", {"vector": column, "width": CODES, "label": CODES})
    scale = 8 if column.type == pa.list_(pa.int8(), 6) else 1
    assert np.abs(values(source) - (VECTORS * scale).astype(int if scale > 1 else float)).max() < 0.01
    assert any("left out: width" in note for note in source.notes)


def test_numbers_of_other_types(tmp_path):
    half = {f"h{place}": VECTORS[:, place].astype(np.float16) for place in range(6)}
    assert np.abs(values(opened(tmp_path / "x.parquet", half)) - VECTORS).max() < 0.01
    cents = {f"d{place}": [Decimal(row) / 4 for row in range(20)] for place in range(3)}
    assert np.array_equal(values(opened(tmp_path / "x.parquet", cents)), np.arange(20)[:, None].repeat(3, 1) / 4)
    other = {"when": [datetime(2020, 1, 1)] * 20, "kind": pa.array(["a", "b"] * 10).dictionary_encode()}
    source = opened(tmp_path / "x.parquet", {**other, "point": [{"x": 1}] * 20, **FLOATS})
    assert np.array_equal(values(source), VECTORS)
    assert any("left out: when, kind, point" in note for note in source.notes)
    for odd in (pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS.reshape(20, 2, 3)), [[[1.0, 2.0]]] * 20):
        with pytest.raises(InputError, match=r"nor of embeddings .* it has e\."):
            opened(tmp_path / "x.parquet", {"e": odd})
    with pytest.raises(InputError, match="two columns that are called 'f0'"):
        opened(tmp_path / "x.parquet", pa.table([VECTORS[:, 0], VECTORS[:, 1]], names=["f0", "f0"]))
    dotted = opened(tmp_path / "x.parquet", {"f.1": VECTORS[:, 0], "f": VECTORS[:, 1], "f.2": VECTORS[:, 2]})
    assert np.array_equal(values(dotted), VECTORS[:, :3])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("g*", "no column 'g\\*' to take"),
        ("f0..f9", "no column 'f0..f9'"),
        ("f0,note", "Column note .* is not numeric"),
        ("f0,vector", "Column vector .* is a list column"),
        ([], "No columns are named"),
        ("", "no column ''"),
    ],
)
def test_columns_that_cannot_be_chosen(tmp_path, asked, message):
    table = {**FLOATS, "note": ["x"] * 20, "vector": VECTORS.tolist()}
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "x.parquet", table, columns=asked)
    with pytest.raises(InputError, match="columns choose the features of a table"):
        open_source(VECTORS, columns="f0")


def test_a_fitted_model_gets_its_columns_by_name(tmp_path):
    path = tmp_path / "x.parquet"
    spec = opened(path, FLOATS).items.spec
    other = dict(reversed(FLOATS.items()))
    source = opened(path, {"label": CODES, "id": range(20), **other}, like=spec)
    assert np.array_equal(values(source), VECTORS)
    assert source.items.spec == spec
    assert any("another order" in note for note in source.notes)
    with pytest.raises(InputError, match=r"lacks 1 of the 6 columns .*\(f3\)"):
        opened(path, {name: cells for name, cells in FLOATS.items() if name != "f3"}, like=spec)
    with pytest.raises(InputError, match=r"not fitted on \(f6\)"):
        opened(path, {**FLOATS, "f6": VECTORS[:, 0]}, like=spec)
    assert np.array_equal(values(opened(path, {"vector": VECTORS.tolist()}, like=spec)), VECTORS)
    chosen = opened(path, {**FLOATS, "w": CODES}, columns="f2..f4").items.spec
    source = opened(path, {"w": CODES, **other}, like=chosen)
    assert np.array_equal(values(source), VECTORS[:, 2:5])
    named = opened(path, {"embedding": VECTORS.tolist()}).items.spec
    source = opened(path, {"embedding": (VECTORS + 1).tolist(), "old": VECTORS.tolist()}, like=named)
    assert np.array_equal(values(source), VECTORS + 1)
    source = opened(path, {"vector": VECTORS.tolist()}, like=named)
    assert any("fitted on a list column embedding" in note for note in source.notes)
    assert np.array_equal(values(open_source(VECTORS, like=spec)), VECTORS)  # an array has no names to compare


@pytest.mark.parametrize("kind", ["numbers", "list", "images"])
def test_damaged_tables_get_one_sentence(tmp_path, kind):
    table = image_table() if kind == "images" else pa.table(FLOATS if kind == "numbers" else {"v": VECTORS.tolist()})
    pq.write_table(table, tmp_path / "whole.parquet")
    content, random = (tmp_path / "whole.parquet").read_bytes(), np.random.default_rng(0)
    refused = []
    for _ in range(60):
        broken = bytearray(content)
        for place in random.integers(0, len(broken), 6):
            broken[place] = random.integers(256)
        (tmp_path / "x.parquet").write_bytes(broken)
        try:
            open_source(tmp_path / "x.parquet")
        except InputError as error:  # and nothing else; some of the changes do no harm
            refused.append(str(error))
    assert refused
    assert not any("\n" in said for said in refused)


def test_other_tables_are_refused_with_what_to_do(tmp_path):
    for ending, reader in ((".csv", "read_csv"), (".tsv", "read_table"), (".xlsx", "read_excel")):
        (tmp_path / f"x{ending}").write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match=rf"pandas\.{reader}\('x{ending}'\)\.to_parquet\('x\.parquet'\)") as caught:
            open_source(tmp_path / f"x{ending}")
        assert ("numpy.loadtxt('x.csv', delimiter=',')" in str(caught.value)) == (ending == ".csv")


def test_the_advice_for_lines_of_json_and_for_arrow_makes_a_source(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pa.table({"f0": [1.0, 2.0, 4.0], "f1": [2.0, 3.0, 9.0]})
    Path("x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    with pa.OSFile("x.arrow", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for name in ("x.jsonl", "x.arrow"):
        with pytest.raises(InputError, match="for example by") as caught:
            open_source(name)
        exec("import pandas; " + str(caught.value).partition("for example by ")[2].rstrip("."))
        assert len(open_source("x.parquet").items) == 3
        Path("x.parquet").unlink()
    with pa.OSFile("x.arrow", "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match=r"datasets\.Dataset\.from_file\('x\.arrow'\)\.to_parquet\('x\.parquet'\)"):
        open_source("x.arrow")


def test_a_first_row_that_was_taken_for_names_is_found(tmp_path) -> None:
    """What pandas.read_csv makes of numbers without a line of names: an item less, and no word."""
    rows = np.random.default_rng(0).normal(size=(61, 4))
    np.savetxt(tmp_path / "x.csv", rows, delimiter=",")
    frame = pd.read_csv(tmp_path / "x.csv")
    frame.to_parquet(tmp_path / "x.parquet")
    for source in (frame, tmp_path / "x.parquet"):
        with pytest.raises(InputError, match="first row of a file without column names"):
            open_source(source)
    wavelengths = [f"{400 + step / 4:g}" for step in range(4)]
    for ordered in (wavelengths, wavelengths[::-1], ["0.5", "0.1"], ["3", "1", "2"]):
        assert len(open_source(pd.DataFrame(rows[:, : len(ordered)], columns=ordered)).items) == 61


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({**FLOATS, "grade": CODES.astype(float)}, "grade has only the whole numbers 0 to 3, as labels"),
        ({**FLOATS, "f6": CODES}, "f6 has only the whole numbers 0 to 3"),
        ({**FLOATS, "f6": np.where(CODES == 0, 1, -1)}, "f6 has only the whole numbers -1 and 1, as labels"),
        (
            {str(place): column for place, column in enumerate([CODES + 1.0, *FLOATS.values()])},
            "0 has only the .* 1 to 4",
        ),
        ({"length": FLOATS["f0"], "weight": FLOATS["f1"], "order": np.arange(20.0)}, "0 to 19, as numbers of the rows"),
    ],
)
def test_codes_in_the_type_of_the_features_are_refused(tmp_path, table, said):
    if "grade" in table:
        table = {name.replace("f", "length" if name == "f0" else "of_"): table[name] for name in table}
        table = {
            f"{'abcdefgh'[place]}_mm" if name != "grade" else name: table[name] for place, name in enumerate(table)
        }
    with pytest.raises(InputError, match=f"It is unclear .*{said}.*--columns"):
        opened(tmp_path / "t.parquet", table)


@pytest.mark.parametrize(
    "table",
    [
        {
            "alcohol": FLOATS["f0"],
            "ash": FLOATS["f1"],
            "proline": np.arange(20) * 37.0 + 200,
        },  # measured in whole units
        {"a_mm": FLOATS["f0"], "b_mm": FLOATS["f1"], "empty": np.zeros(20)},
        {"a_mm": FLOATS["f0"], "rings": CODES.astype(float), "legs": CODES[::-1] * 2.0},
        {f"pixel{place}": (column if place % 3 else column * 0) for place, column in enumerate(FLOATS.values())},
        {f"pixel{place}": CODES for place in range(5)},
    ],
)
def test_whole_numbers_that_are_no_codes_are_features(tmp_path, table):
    assert opened(tmp_path / "t.parquet", table).items.spec.columns == tuple(table)


@pytest.mark.parametrize("name", ["fine_label", "species_id", "image_id", "Target", "index"])
def test_a_frame_with_labels_ids_or_row_numbers_is_refused(name):
    with pytest.raises(InputError, match=name):
        open_source(pd.DataFrame({**FLOATS, name: CODES}))


def test_blanks_around_a_name_are_seen_in_the_message(tmp_path):
    like = opened(tmp_path / "t.parquet", FLOATS).items.spec
    with pytest.raises(InputError, match=r"lacks 6 of the 6 columns .*it has ' f0', 'f1 ', f9"):
        opened(tmp_path / "n.parquet", {" f0": VECTORS[:, 0], "f1 ": VECTORS[:, 1], "f9": VECTORS[:, 2]}, like=like)


def test_values_that_are_no_numbers_are_named(tmp_path):
    with pytest.raises(InputError, match=r"Column f6 of .* holds no numbers, but is called as the 6 features are"):
        opened(tmp_path / "t.parquet", {**FLOATS, "f6": TEXTS})
    with pytest.raises(InputError, match=r"infinity .*row 0, column f6"):
        opened(tmp_path / "t.parquet", {**FLOATS, "f6": np.where(CODES == 0, np.inf, CODES)})


@pytest.mark.parametrize("codes", [CODES, np.arange(20), np.where(CODES == 0, 1, -1)])
def test_codes_among_the_numbers_of_an_array_are_said(codes):
    """An array has no names by which to choose its columns, so nothing is refused."""
    for array, place in ((np.c_[codes, VECTORS], 0), (np.c_[VECTORS, codes].astype(np.float32), 6)):
        (note,) = open_source(array).notes
        assert note.startswith(f"Column {place} of array has only the whole numbers {codes.min()}")
    assert not open_source(np.c_[VECTORS[:, :3], codes, VECTORS[:, 3:]]).notes
    assert not open_source(np.c_[codes, VECTORS, codes % 2]).notes


def test_codes_among_the_columns_of_a_frame_are_warned_of():
    frame = pd.DataFrame({**FLOATS, "cluster": CODES})
    assert any("Column cluster has only the whole numbers 0 to 3" in said for said in open_source(frame).warnings)
    assert not open_source(frame, columns=list(frame)).warnings
    assert not open_source(pd.DataFrame(FLOATS)).warnings


def test_an_empty_cell_of_a_frame_is_missing():
    frame = pd.DataFrame(FLOATS).astype("Float64")
    frame.iloc[3, 2] = pd.NA
    with pytest.raises(InputError, match="contains NaN: row 3, column 2"):
        open_source(frame)


def test_a_memoryview_is_an_array():
    assert np.array_equal(values(open_source(memoryview(VECTORS))), VECTORS)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_whole_numbers_that_float64_rounds_are_refused(dtype: str) -> None:
    numbers = np.arange(30, dtype=dtype)[:, None] * np.array([1, 3], dtype=dtype)
    assert open_source(numbers + np.array([2**52, 0], dtype=dtype)).items.spec.offset[0] == 2**52
    large = numbers + np.array([0, 2**60], dtype=dtype)
    said = f"whole numbers from {2**60} to {2**60 + 87}, and float64 rounds those: subtract {2**60}"
    with pytest.raises(InputError, match=f"Column 1 of array holds {said}"):
        open_source(large)
    assert len(open_source(numbers * np.array([1, 2**50], dtype=dtype)).items) == 30  # a wide span is none of these


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean"])
def test_columns_that_may_have_empty_cells_are_numbers_also_where_they_are_chosen(kind: str) -> None:
    frame = pd.DataFrame({"a": np.arange(30) / 7, "b": np.arange(30) % 2})
    fitted = open_source(frame, columns="a,b")
    like = fitted.items.spec
    frame = frame.astype({"b": kind})
    for options in ({"columns": "a,b"}, {"like": like}):
        assert np.array_equal(values(open_source(frame, **options)), values(fitted))
    frame.loc[0, "b"] = pd.NA
    for options in ({}, {"columns": "a,b"}, {"like": like}):
        with pytest.raises(InputError, match=r"row 0, column 1 of .* is empty"):
            open_source(frame, **options)


@pytest.mark.parametrize("kind", ["int64", "Int64", "uint64", "arrow", "columns", "list"])
def test_whole_numbers_of_a_table_are_refused_before_other_columns_make_them_floats(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(30) / 7, "b": 2**60 + 3 * np.arange(30)})
    near = pd.DataFrame({"a": frame.a, "b": 2**52 + 3 * np.arange(30)})
    path, name, options = tmp_path / "t.parquet", "b", {}

    def given(frame: pd.DataFrame) -> Any:
        if kind == "arrow":
            return pa.table(frame)
        if kind in ("columns", "list"):
            lists = pa.array([[row, int(large)] for row, large in enumerate(frame.b)])
            table = pa.table({"e": lists}) if kind == "list" else pa.table(frame)
            pq.write_table(table, path, row_group_size=7)
            return path
        return frame.astype({"b": kind})

    if kind in ("columns", "list"):
        name, options = ("e[1]", {"columns": "e"}) if kind == "list" else ("b", {"columns": "a,b"})
    with pytest.raises(InputError, match=f"Column {re.escape(name)} of .* holds whole numbers from {2**60} to"):
        open_source(given(frame), **options)
    fitted = open_source(given(near), **options)
    assert len(fitted.items) == 30
    # A model takes what it is given: a few rows of a wide column may lie as near to each other.
    assert len(open_source(given(frame), like=fitted.items.spec).items) == 30


def test_unsigned_numbers_and_times_of_polars_are_refused_as_those_of_pandas():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": np.arange(30) / 7, "b": np.uint64(2**63) + 3 * np.arange(30, dtype=np.uint64)})
    with pytest.raises(InputError, match=f"Column b of .* holds whole numbers from {2**63} to"):
        open_source(frame)
    with pytest.raises(InputError, match=r"columns of times \(b\)"):
        open_source(frame.with_columns(polars.lit(0).cast(polars.Time).alias("b")))


def test_whole_numbers_beyond_the_steps_of_float32_keep_their_differences(tmp_path):
    rows = 2**24 + np.arange(40, dtype=np.int32).reshape(20, 2)
    pq.write_table(
        pa.table({"embedding": rows.tolist()}, pa.schema({"embedding": pa.list_(pa.int32())})), tmp_path / "x.parquet"
    )
    taken = open_source(tmp_path / "x.parquet").items.take(torch.arange(20)).numpy()
    np.testing.assert_array_equal(taken - taken[0], rows - rows[0])


def test_a_wrong_row_of_a_part_is_named_by_its_place_in_the_file():
    table = pa.table({"embedding": [[1.0, 2.0]] * 6 + [[1.0]]})
    with pytest.raises(InputError, match=r"Row 106 of x\.parquet has no embedding of 2 numbers"):
        list_column(table.to_batches(2), 7, table.schema, "embedding", Path("x.parquet"), 100, Ends())
