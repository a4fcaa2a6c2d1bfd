from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coterie.data import labels_of, read_label_file
from coterie.data.encoding import encode
from coterie.types import InputError

IDS = ["a/1.png", "a/2.png", "b/3.png"]


def write(path, content) -> None:
    if path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(content), path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "id,label\nb/3.png,dog\na/1.png,cat\na/2.png,dog\n"),
        ("x.csv", "\ufeffsize,Label,Path\n9,dog,b/3.png\n9,cat,a/1.png\n9,dog,a/2.png\n"),
        ("x.csv", "label\ncat\ndog\ndog\n"),
        ("x.csv", "animal\ncat\ndog\ndog\n"),
        ("x.csv", "cat\ndog\ndog\n"),
        ("x.npy", np.array(["cat", "dog", "dog"])),
        ("x.npy", np.array([["cat"], ["dog"], ["dog"]])),
        ("x.parquet", {"label": ["cat", "dog", "dog"]}),
        ("x.parquet", {"only": ["cat", "dog", "dog"]}),
        ("x.parquet", {"id": IDS[::-1], "label": ["dog", "dog", "cat"]}),
        ("x.json", ["cat", "dog", "dog"]),
        ("x.json", {"b/3.png": "dog", "a/2.png": "dog", "a/1.png": "cat"}),
    ],
)
def test_every_form_of_label_file_says_the_same(tmp_path, name, content):
    write(tmp_path / name, content)
    labels = read_label_file(tmp_path / name, IDS)
    assert (labels.codes.tolist(), labels.names) == ([0, 1, 1], ["cat", "dog"])
    assert labels.codes.dtype == np.int64


def test_missing_labels_are_minus_one_and_skipped_images_may_have_some(tmp_path):
    write(tmp_path / "x.json", {"a/1.png": "cat", "broken.png": "dog"})
    assert read_label_file(tmp_path / "x.json", IDS, skipped=["broken.png"]).codes.tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "id,label\nzebra.png,1\n", r"names zebra\.png, which is not in the source .*look like a/1\.png"),
        ("x.csv", "id,label\na/1.png,1\na/1.png,2\n", "names a/1.png twice"),
        ("x.csv", "id,label\na/1.png\n", "Line 2 .* has 1 columns"),
        ("x.csv", "a/1.png,cat\na/2.png,dog\n", "first line with the column names"),
        ("x.csv", "label\n1\n2\n", "has 2 labels for 3 items"),
        ("x.csv", "", "has 0 labels for 3 items"),
        ("x.npy", np.zeros(4), "has 4 labels for 3 items"),
        ("x.npy", np.zeros((3, 2)), r"has shape \(3, 2\)"),
        ("x.parquet", {"a": [1], "b": [2]}, "needs a column label; it has a, b"),
        ("x.parquet", {"label": [[1], [2], [3]]}, r"\[1\] is no label"),
        ("x.json", "{not json", "cannot be read"),
        ("x.json", 5, "must hold a list of labels"),
        ("x.txt", "1", "must be one of .csv"),
    ],
)
def test_wrong_label_files_get_one_sentence(tmp_path, name, content, message):
    write(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        read_label_file(tmp_path / name, IDS)


def test_wrong_paths_and_ids_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_label_file(tmp_path / "nowhere.csv", IDS)
    with pytest.raises(InputError, match="labels of digits are for 1797 rows"):
        labels_of("digits", ["2000"])
    with pytest.raises(InputError, match="labels of digits are for 1797 rows"):
        labels_of("digits", ["a.png"])
    assert labels_of(np.eye(3), ["0", "1", "2"]) is None


def test_encoding_sorts_numbers_by_value_and_keeps_names_apart():
    labels = encode(["10", "9", "", "cat", None, "-1", "007", "7"])
    assert labels.names == ["7", "9", "10", "007", "cat"]
    assert labels.codes.tolist() == [2, 1, -1, 4, -1, -1, 3, 0]
    assert encode([3.0, float("nan"), -1, np.int64(2)]).codes.tolist() == [1, -1, -1, 0]
