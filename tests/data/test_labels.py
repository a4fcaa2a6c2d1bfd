from __future__ import annotations

import contextlib
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coterie.data import labels_of, read_label_file
from coterie.data.encoding import encode
from coterie.data.labels import alike
from coterie.data.matching import match
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
        ("x.csv", "first,cat\nsecond,dog\n", r"columns first, cat, .* ids look like a/1\.png"),
        ("x.csv", "label\n1\n2\n", "has 2 labels for 3 items"),
        ("x.csv", "", "has 0 labels for 3 items"),
        ("x.npy", np.zeros(4), "has 4 labels for 3 items"),
        ("x.npy", np.zeros((3, 2)), r"has shape \(3, 2\)"),
        ("x.parquet", {"a": [1], "b": [2]}, "columns a, b, and none is called id, filename or path"),
        ("x.parquet", {"label": [[1], [2], [3]]}, r"\[1\] is no label"),
        ("x.json", "{not json", "cannot be read"),
        ("x.json", 5, "must hold a list of labels"),
        ("x.txt", "1", "must be a .csv"),
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


NUMBERS = [str(row) for row in range(30)]
CLASSES = [f"c{row % 4}" for row in range(30)]
PATHS = [f"{'xyz'[row % 3]}/{row:03}.png" for row in range(30)]


def lines(names, labels, head="id,label", separator=",", seed=0):
    """A table of text in another order than the source's."""
    order = np.random.default_rng(seed).permutation(len(names))
    return "\n".join([head, *(f"{names[row]},{labels[row]}" for row in order)]).replace(",", separator) + "\n"


@pytest.mark.parametrize(
    "key",
    ["filename", "File Name", "imagePath", "Image_ID", "img", "item", "key", "INDEX", "", "Unnamed: 0", "row", "nr"],
)
@pytest.mark.parametrize("ids", [NUMBERS, PATHS], ids=["numbers", "paths"])
def test_rows_are_matched_by_name_whatever_the_column_is_called(tmp_path, key, ids):
    write(tmp_path / "x.csv", lines(ids, CLASSES, f"{key},species"))
    labels = read_label_file(tmp_path / "x.csv", ids)
    assert [labels.names[code] for code in labels.codes] == CLASSES
    assert labels.note == f"column species of x.csv, matched by {key or 'its unnamed column'}"


@pytest.mark.parametrize(
    "written",
    [
        lambda name: "./" + name,
        lambda name: "/srv/photos/" + name,
        lambda name: "D:\\photos\\" + name.replace("/", "\\"),
        lambda name: name.split("/")[1],
        lambda name: name.removesuffix(".png"),
        lambda name: name.split("/")[1].removesuffix(".png"),
        lambda name: name.upper(),
        lambda name: f'"{name}"',
        lambda name: f"  {name} ",
        lambda name: str(int(name[2:5])),
        lambda name: f"{int(name[2:5])}.0",
    ],
)
def test_paths_written_otherwise_are_the_same_items(tmp_path, written):
    write(tmp_path / "x.csv", lines([written(name) for name in PATHS], CLASSES, "image,class"))
    labels = read_label_file(tmp_path / "x.csv", PATHS)
    assert [labels.names[code] for code in labels.codes] == CLASSES


@pytest.mark.parametrize(
    ("keys", "ids", "message"),
    [
        (["1.png", "2.png"], ["a/1.png", "b/1.png", "a/2.png"], r"names 1\.png, which may be .*a/1\.png or b/1\.png"),
        (["p/1.png", "q/1.png"], ["1.png", "2.png"], "may be several items"),
        (["b/1.png", "b/2.png"], ["a/1.png", "a/2.png"], r"names b/1\.png, which is not in the source \(2 such ids"),
        (["1.jpg", "2.jpg"], ["1.png", "2.png"], r"names 1\.jpg, which is not in the source"),
        (["1", "2", "3"], ["0", "1", "2", "3"], "from 1 to 3, .* begin with 0"),
        (["1", "2", "3"], ["0", "1", "2"], "names 3, which is not"),
        (["", "1"], ["0", "1"], "row 1 is about: its name is empty"),
    ],
)
def test_names_that_fit_no_item_or_several_are_refused(tmp_path, keys, ids, message):
    write(tmp_path / "x.json", [{"id": key, "label": place % 2} for place, key in enumerate(keys)])
    with pytest.raises(InputError, match=message):
        read_label_file(tmp_path / "x.json", ids)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_encodings_and_ends_of_lines(tmp_path, separator, coding, end):
    names = ["Käfer", "Maus", "Würmer"]
    text = lines(NUMBERS, [names[row % 3] for row in range(30)], separator=separator).replace("\n", end)
    (tmp_path / "x.tsv").write_bytes(text.encode(coding))
    labels = read_label_file(tmp_path / "x.tsv", NUMBERS)
    assert labels.names == names
    assert labels.codes.tolist() == [row % 3 for row in range(30)]
    assert ("Windows-1252" in labels.note) == (coding == "latin-1")


def test_a_decimal_comma_does_not_hide_the_separator(tmp_path):
    rows = [f"{row};0,{row:02};c{row % 2}" for row in range(30)]
    write(tmp_path / "x.csv", "\n".join(["id;score;label", *rows]))
    assert read_label_file(tmp_path / "x.csv", NUMBERS).codes.tolist() == [row % 2 for row in range(30)]
    write(tmp_path / "x.csv", "\n".join(["sep=;", "id;score;label", *rows]))
    assert read_label_file(tmp_path / "x.csv", NUMBERS).names == ["c0", "c1"]


def test_a_file_without_column_names_is_known_by_its_ids(tmp_path):
    for ids in (NUMBERS, PATHS):
        write(tmp_path / "x.csv", lines(ids, CLASSES).split("\n", 1)[1])
        labels = read_label_file(tmp_path / "x.csv", ids)
        assert [labels.names[code] for code in labels.codes] == CLASSES
        assert "no line of column names" in labels.note


@pytest.mark.parametrize("word", ["", "  ", "NaN", "nan", "NA", "N/A", "None", "null", "<NA>", "-1"])
def test_words_for_nothing_are_no_class_in_any_form_of_file(tmp_path, word):
    values = [word if row % 3 == 0 else f"{row % 2}.0" for row in range(30)]
    expected = [-1 if row % 3 == 0 else row % 2 for row in range(30)]
    write(tmp_path / "x.csv", lines(NUMBERS, values))
    write(tmp_path / "x.json", dict(zip(NUMBERS, values, strict=True)))
    write(tmp_path / "x.npy", np.array(values))
    floats = [None if code < 0 else float(code) for code in expected]
    write(tmp_path / "x.parquet", {"image_id": NUMBERS, "label": floats})
    write(tmp_path / "y.npy", np.array([np.nan if value is None else value for value in floats]))
    for name in ("x.csv", "x.json", "x.npy", "x.parquet", "y.npy"):
        labels = read_label_file(tmp_path / name, NUMBERS)
        assert (labels.names, labels.codes.tolist()) == (["0", "1"], expected)
        assert "10 of 30 items have no label" in labels.note
    assert encode(["none", "Nan", "na"]).codes.tolist() == [2, 0, 1]  # classes, as people write them


def test_of_two_columns_that_may_be_the_label_none_is_guessed(tmp_path):
    fine, coarse = [f"f{row % 6}" for row in range(30)], [f"c{row % 3}" for row in range(30)]
    write(tmp_path / "x.parquet", {"filename": NUMBERS, "fine_label": fine, "coarse_label": coarse})
    with pytest.raises(InputError, match=r"fine_label and coarse_label, .* --label-column fine_label"):
        read_label_file(tmp_path / "x.parquet", NUMBERS)
    labels = read_label_file(tmp_path / "x.parquet", NUMBERS, column="Coarse_Label")
    assert labels.codes.tolist() == [row % 3 for row in range(30)]
    with pytest.raises(InputError, match="has no column 'kind'; it has filename, fine_label"):
        read_label_file(tmp_path / "x.parquet", NUMBERS, column="kind")
    # A number and a name for the same classes are no contradiction, and a source of labels is no label.
    numbers = [row % 6 for row in range(30)]
    write(tmp_path / "x.parquet", {"id": NUMBERS, "label": numbers, "class_name": fine, "label_source": coarse})
    assert read_label_file(tmp_path / "x.parquet", NUMBERS).names == [f"f{place}" for place in range(6)]


def test_an_explicit_id_goes_before_the_number_of_a_row(tmp_path):
    order = np.random.default_rng(1).permutation(30)
    table = {"": range(30), "id": [NUMBERS[row] for row in order], "label": [CLASSES[row] for row in order]}
    write(tmp_path / "x.json", {name: list(map(str, cells)) for name, cells in table.items()})
    labels = read_label_file(tmp_path / "x.json", NUMBERS)
    assert [labels.names[code] for code in labels.codes] == CLASSES
    write(tmp_path / "x.json", {"id": NUMBERS, "image_id": NUMBERS[::-1], "label": CLASSES})
    with pytest.raises(InputError, match=r"id and image_id, and both name items .* not the same"):
        read_label_file(tmp_path / "x.json", NUMBERS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,label\n" + "".join(f"{row},c{row}\n" for row in range(30)), "a class of its own for every item"),
        ("\n".join(f"{row}.png cat" for row in range(30)), "a class of its own"),
        ("size,label\n" + "9,a\n" * 30, "columns size, label, and none is called id"),
        ("id,label,label\n" + "0,a,b\n", "Two columns are called 'label'"),
        ("\n".join(["cat", "dog"] * 15 + ["cat"]), "has 31 labels for 30 items"),
        ('id,label\n0,"cat\n1,dog\n', r"Line 2 .* maybe a quote is never closed\.$"),
        ("id,label\n0,cat\n1," + "d" * 200_000, "Line 3 .*field larger than field limit"),
        ("id,label\n0,c\0at\n", "Line 2 .* a character that no text has"),
        ("id,label\n0,NA\n1,\n", "has no label for any item"),
        ("id,label\n0,a\n1,b,c\n", "Line 3 .* has 3 columns"),
    ],
)
def test_tables_of_text_that_are_not_plain_are_refused(tmp_path, content, message):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_label_file(tmp_path / "x.csv", NUMBERS)


def test_an_item_named_twice_must_have_one_label(tmp_path):
    write(tmp_path / "x.csv", "id,label\n0,a\n1,b\n./0,a\n")
    assert "1 of its 3 rows name an item once more" in read_label_file(tmp_path / "x.csv", NUMBERS).note
    for other in ("b", ""):
        write(tmp_path / "x.csv", f"id,label\n0,a\n1,b\n0,{other}\n")
        with pytest.raises(InputError, match="names 0 twice, with the labels 'a' and"):
            read_label_file(tmp_path / "x.csv", NUMBERS)
    (tmp_path / "x.json").write_text('{"0": "a", "0": "b"}')
    with pytest.raises(InputError, match="names 0 twice"):
        read_label_file(tmp_path / "x.json", NUMBERS)


def test_archives_of_labels_alone_and_with_ids(tmp_path):
    codes = np.arange(30) % 3
    np.savez(tmp_path / "alone.npz", codes)
    np.savez(tmp_path / "named.npz", filenames=PATHS[::-1], y=codes[::-1], images=np.zeros((30, 2, 2)))
    assert read_label_file(tmp_path / "alone.npz", PATHS).codes.tolist() == codes.tolist()
    assert read_label_file(tmp_path / "named.npz", PATHS).codes.tolist() == codes.tolist()
    np.save(tmp_path / "flags.npy", codes == 0)
    assert read_label_file(tmp_path / "flags.npy", PATHS).names == ["False", "True"]


def test_damaged_files_get_one_sentence(tmp_path):
    np.save(tmp_path / "whole.npy", np.arange(30) % 3)
    np.savez(tmp_path / "whole.npz", labels=np.arange(30) % 3)
    write(tmp_path / "whole.parquet", {"id": NUMBERS, "label": CLASSES})
    random = np.random.default_rng(0)
    for name in ("whole.npy", "whole.npz", "whole.parquet"):
        content = (tmp_path / name).read_bytes()
        for _ in range(60):
            broken = bytearray(content[: random.integers(1, len(content) + 1)])
            for place in random.integers(0, len(broken), 4):
                broken[place] = random.integers(256)
            path = tmp_path / ("broken" + name[5:])
            path.write_bytes(broken)
            with contextlib.suppress(InputError):  # some of the changes do no harm
                read_label_file(path, NUMBERS)
    for odd in ("x" * 5000 + ".csv", "~nobody-here/x.csv", tmp_path):
        with pytest.raises(InputError, match=r"cannot be (read|looked up)|does not exist|is a folder"):
            read_label_file(odd, NUMBERS)


def test_labels_of_a_source_with_several_columns_of_them(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((9, 4, 4)), y=np.arange(9) % 3, target=np.arange(9) % 2)
    ids = [str(row) for row in range(9)]
    with pytest.raises(InputError, match="y and target, and either may hold the labels"):
        labels_of(path, ids)
    assert labels_of(path, ids, "target").codes.tolist() == [row % 2 for row in range(9)]
    np.savez(path, images=np.zeros((9, 4, 4)), y=np.arange(9) % 3, labels=np.arange(9) % 3)
    assert labels_of(path, ids).codes.tolist() == [row % 3 for row in range(9)]


def test_empty_columns_of_a_table_program_are_passed_over(tmp_path):
    write(tmp_path / "x.csv", lines(NUMBERS, [f"{name};;" for name in CLASSES], "id;label;;", ";").replace(",", ";"))
    labels = read_label_file(tmp_path / "x.csv", NUMBERS)
    assert [labels.names[code] for code in labels.codes] == CLASSES


def test_files_that_are_not_found_by_name_are_not_found_by_a_row_number(tmp_path):
    ids = [f"{row}.png" for row in range(30)]
    order = np.random.default_rng(2).permutation(30)
    rows = [f"{row},photo{order[row]}.png,{CLASSES[row]}" for row in range(30)]
    write(tmp_path / "x.csv", "\n".join(["Unnamed: 0,filename,label", *rows]))
    with pytest.raises(InputError, match=rf"names photo{order[0]}\.png, which is not in the source"):
        read_label_file(tmp_path / "x.csv", ids)


@pytest.mark.parametrize("word", ["none", "NONE", "Na", "Unknown", "?", "-"])
def test_a_class_that_may_mean_no_label_is_named(tmp_path, word):
    write(tmp_path / "x.csv", f"id,label\na/1.png,cat\na/2.png,{word}\nb/3.png,{word}\n")
    labels = read_label_file(tmp_path / "x.csv", IDS)
    assert sorted(labels.names) == sorted([word, "cat"])
    assert f"{word!r} counts as a class" in labels.note


@pytest.mark.parametrize("names", [IDS, [name.split("/")[1] for name in IDS]], ids=["paths", "names"])
def test_pictures_in_a_table_name_the_items_by_their_paths(tmp_path, names):
    pictures = [{"bytes": b"", "path": name} for name in names[::-1]]
    write(tmp_path / "x.parquet", {"image": pictures, "label": ["owl", "dog", "owl"][::-1]})
    labels = read_label_file(tmp_path / "x.parquet", IDS)
    assert [labels.names[code] for code in labels.codes] == ["owl", "dog", "owl"]
    write(tmp_path / "x.parquet", {"image": pictures[:2], "label": ["cat", "dog"]})
    labels = read_label_file(tmp_path / "x.parquet", IDS)
    assert [labels.names[code] if code >= 0 else None for code in labels.codes] == [None, "dog", "cat"]


def test_names_that_may_be_several_items_are_not_called_missing(tmp_path):
    ids = ["train/a/1.png", "val/a/1.png", "train/b/2.png", "val/b/2.png"]
    write(tmp_path / "x.csv", lines(["1.png", "2.png"], ["a", "b"]))
    with pytest.raises(InputError, match=r"names [12]\.png, which may be several items of the source"):
        read_label_file(tmp_path / "x.csv", ids)


def test_a_result_table_is_said_to_be_no_truth(tmp_path):
    table = {"id": IDS, "label": [0, 1, 1], "confidence": [0.9] * 3, "probabilities": [[0.9, 0.1]] * 3}
    write(tmp_path / "x.parquet", table)
    assert "a result table of coterie" in read_label_file(tmp_path / "x.parquet", IDS).note
    write(tmp_path / "x.parquet", {name: table[name] for name in ("id", "label", "confidence")})
    assert "result table" not in read_label_file(tmp_path / "x.parquet", IDS).note


@pytest.mark.parametrize("form", [".npy", ".npz", "records"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_texts_that_are_no_characters_are_named(tmp_path, form, order):
    texts = np.array(["ab", "cd", "ef"], f"{order}U2")
    texts.view(f"{order}u4")[3] = 0x7FFFFFFF
    path = tmp_path / f"labels{'.npz' if form == '.npz' else '.npy'}"
    if form == ".npz":
        np.savez(path, labels=texts)
    elif form == "records":
        table = np.zeros(3, [("id", "i4"), ("label", f"{order}U2")])
        table["id"], table["label"] = range(3), texts
        np.save(path, table)
    else:
        np.save(path, texts)
    with pytest.raises(InputError, match="text 1 holds what is no character"):
        read_label_file(path, ["0", "1", "2"])


def test_python_objects_are_refused_with_what_to_save(tmp_path):
    np.save(tmp_path / "x.npy", np.array(["cat", "dog", "dog"], dtype=object))
    with pytest.raises(InputError, match=r"x\.npy holds Python objects.* labels\.astype\(str\)\.$"):
        read_label_file(tmp_path / "x.npy", IDS)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_file_of_something_else_is_refused_without_advice_to_run_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(InputError, match=r"cannot be read \(it is neither a \.npy nor a \.npz file\)\.$"):
        read_label_file(tmp_path / name, IDS)


def test_python_objects_beside_a_sources_labels_do_not_hide_them(tmp_path):
    where = tmp_path / "x.npz"
    np.savez(where, embeddings=np.eye(3), labels=np.array([0, 1, 1]), files=np.array(IDS, dtype=object))
    found = labels_of(where, ["0", "1", "2"])
    assert found is not None
    assert found.codes.tolist() == [0, 1, 1]
    with pytest.raises(InputError, match=r"The array files of .* holds Python objects"):
        read_label_file(where, IDS)


def test_pandas_missing_values_are_unknown():
    labels = encode(list(pd.array([3, None, 7], dtype="Int64")))
    assert (labels.codes.tolist(), labels.names) == ([0, -1, 1], ["3", "7"])


def test_names_in_several_folders_are_found_by_their_ends_and_never_guessed() -> None:
    """A name that is the end of one item and of which another is the end may be either."""
    ids = ["1/a.png", "2/b.png", "a.png"]
    assert match(["/one/1/a.png", "/two/2/b.png"], ids[:2], [], "labels").tolist() == [0, 1]
    assert match(["/two/2/b.png", "/one/1/c.png"], ids, ["1/c.png"], "labels").tolist() == [1, -1]
    for keys, pool in (
        (["2/b.png", "1/a.png"], ["a.png", "c/1/a.png", "2/b.png"]),
        (["b.png"], ["1/b.png", "2/b.png"]),
    ):
        with pytest.raises(InputError, match="which may be several items of the source"):
            match(keys, pool, [], "labels")


def test_classes_that_differ_in_writing_alone_are_named(tmp_path):
    write(tmp_path / "labels.csv", "id,label\n0,cat\n1,Cat\n2,01\n3,1\n4,cat")
    said = alike(read_label_file(tmp_path / "labels.csv", list("01234")))
    assert said == (
        "'1' and '01' count as different classes (2 classes are written in several ways): write one in one way, if "
        "they are one"
    )
    assert alike(encode(["cat", "dog", 10, 1, "1.0", "caf\u00e9"])) == ""
    assert "count as different classes: write" in alike(encode(["caf\u00e9", "cafe\u0301", "x"]))
