"""Which columns of a table are features, and what is refused because it may be none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from coterie.data import labels_of, open_source
from coterie.types import InputError
from helpers.tables import CODES, FLOATS, PIXELS, VECTORS, encoded, opened, values


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


def test_blanks_around_a_name_and_line_breaks_in_it_are_seen_in_the_message(tmp_path):
    """Headings of several lines are common in tables of Excel."""
    like = opened(tmp_path / "t.parquet", FLOATS).items.spec
    others = dict(zip([" f0", "f1 ", "f9", "f\n2"], VECTORS.T, strict=False))
    with pytest.raises(InputError, match=r"lacks 6 of the 6 columns .*it has ' f0', 'f1 ', f9, 'f\\n2'\."):
        opened(tmp_path / "n.parquet", others, like=like)
    other = {"f\n0": np.where(CODES == 0, np.nan, FLOATS["f0"]), "f1": FLOATS["f1"]}
    for table, said in (
        (other, r"row 0, column 'f\\n0' of n"),
        ({"a\nb": [[1.0, 2.0], [3.0]]}, r"numbers in column 'a\\nb',"),
    ):
        with pytest.raises(InputError, match=said):
            opened(tmp_path / "n.parquet", table)
    (note,) = opened(tmp_path / "n.parquet", {"a\nb": VECTORS.tolist()}).notes
    assert note == r"Features: column 'a\nb'."


def test_values_that_are_no_numbers_are_named(tmp_path):
    with pytest.raises(InputError, match=r"Column f6 of .* holds no numbers, but is called as the 6 features are"):
        opened(tmp_path / "t.parquet", {**FLOATS, "f6": [f"{row:03}" for row in range(20)]})
    with pytest.raises(InputError, match=r"infinity .*row 0, column f6"):
        opened(tmp_path / "t.parquet", {**FLOATS, "f6": np.where(CODES == 0, np.inf, CODES)})
