from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from coterie.data import labels_of, open_source
from coterie.types import InputError, ItemSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (25, 12, 10, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
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


@pytest.mark.parametrize("name", ["embedding", "embeddings", "features"])
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


def test_wrong_tables_get_one_sentence(tmp_path):
    path = tmp_path / "x.parquet"
    ragged = [[1.0, 2.0], [3.0, 4.0], [5.0]]
    for table, message in [
        (pa.table({"embedding": ragged}), "Row 2 of .* has no embedding of 2 numbers"),
        (pa.table({"embedding": [[1.0, 2.0], None]}), "Row 1 of .* has no embedding"),
        (pa.table({"embedding": [[1.0, 2.0], [3.0, None]]}), "NaN: row 1, column 1"),
        (pa.table({"a": [1, None, 3], "b": [1, 2, 3]}), "NaN: row 1, column 0"),
        (pa.table({"text": ["a", "b"]}), "has neither a column of images .*it has text"),
        (pa.table({"a": pa.array([], pa.float32())}), "has no rows"),
    ]:
        pq.write_table(table, path)
        with pytest.raises(InputError, match=message):
            open_source(path)
    path.write_text("no table")
    with pytest.raises(InputError, match="cannot be read as a parquet file"):
        open_source(path)
