"""Tables of pictures and of embeddings in files: their cells, names of rows, labels, damage."""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from coterie.data import labels_of, open_source
from coterie.data.extensions import extensions
from coterie.data.labels import read_label_file
from coterie.data.table_numbers import list_column
from coterie.data.whole_numbers import Ends
from coterie.types import InputError, ItemSpec
from helpers.tables import CODES, FLOATS, PIXELS, VECTORS, encoded, opened, values


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


def test_pictures_in_every_layout_of_bytes(tmp_path):
    """Before, a view of bytes and one of categories held no bytes of pictures."""
    cells = pa.array([encoded(image) for image in PIXELS])
    names = pa.array([f"{row}.png" for row in range(25)])
    for column in (cells.cast(pa.large_binary()), cells.dictionary_encode()):
        for name in ("image", "photo"):
            assert np.array_equal(values(opened(tmp_path / "x.parquet", {name: column})), PIXELS.transpose(0, 3, 1, 2))
    try:
        views = cells.cast(pa.binary_view())
    except pa.ArrowNotImplementedError:
        return  # an older pyarrow
    assert np.array_equal(values(opened(tmp_path / "x.parquet", {"photo": views})), PIXELS.transpose(0, 3, 1, 2))
    struct = pa.StructArray.from_arrays([views, names.cast(pa.string_view())], ["bytes", "path"])
    table = {"image": struct, "label": (np.arange(25) % 2).tolist()}
    source = opened(tmp_path / "x.parquet", table)
    assert read_label_file(tmp_path / "x.parquet", names.to_pylist()).codes.tolist() == table["label"]
    assert np.array_equal(values(source), PIXELS.transpose(0, 3, 1, 2))


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
        pa.array(VECTORS.tolist(), pa.list_view(pa.float32())),
        pa.array(VECTORS.tolist(), pa.large_list_view(pa.float64())),
        pa.array((VECTORS * 8).astype(int).tolist(), pa.list_(pa.int8(), 6)),
    ],
)
def test_list_columns_of_other_types(tmp_path, column):
    try:
        source = opened(tmp_path / "x.parquet", {"vector": column, "width": CODES, "label": CODES})
    except pa.ArrowNotImplementedError:
        pytest.skip("an older pyarrow does not write this")
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


def test_a_wrong_row_of_a_part_is_named_by_its_place_in_the_file():
    table = pa.table({"embedding": [[1.0, 2.0]] * 6 + [[1.0]]})
    with pytest.raises(InputError, match=r"Row 106 of x\.parquet has no embedding of 2 numbers"):
        list_column(table.to_batches(2), 7, table.schema, "embedding", Path("x.parquet"), 100, Ends())
