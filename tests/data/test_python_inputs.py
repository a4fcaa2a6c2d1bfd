"""Whatever Python users hand over is understood right, or refused in one sentence that says what to give."""

from __future__ import annotations

import io
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from coterie import Clusterer
from coterie.data import open_source
from coterie.data.originals import absolute_path
from coterie.types import InputError, ItemSpec, Source

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
sparse = pytest.importorskip("scipy.sparse")

ROWS = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 18, 3), dtype=np.uint8)


class Items:
    """Items by number, as many libraries have them, without being a torch Dataset."""

    def __init__(self, items: Any, length: int | None = None) -> None:
        self.items, self.length = items, length

    def __len__(self) -> int:
        return len(self.items) if self.length is None else self.length

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


class ArrayLike:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


class Lazy:
    """As a LazyFrame of polars."""

    columns = ("a", "b")

    def collect(self) -> None: ...


class Query(Lazy):
    """As a relation of DuckDB."""

    def __len__(self) -> int:
        return len(ROWS)

    def fetchdf(self) -> None: ...


class Endless(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return iter(ROWS)

    def __len__(self) -> int:
        return len(ROWS)


def cells(rows: np.ndarray) -> np.ndarray:
    """One array in each cell, as in a column of embeddings."""
    column = np.empty(len(rows), object)
    column[:] = list(rows)
    return column


TWO_LEVELS = pd.DataFrame(ROWS, columns=pd.MultiIndex.from_product([["f"], list("abcde")]))
VECTORS = {
    "list of lists": ROWS.tolist(),
    "tuple of tuples": tuple(map(tuple, ROWS.tolist())),
    "list of arrays": list(ROWS),
    "list of tensors with gradient": [torch.tensor(row, requires_grad=True) for row in ROWS],
    "tensor with gradient": torch.tensor(ROWS, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.tensor(ROWS)),
    "strided tensor": torch.tensor(ROWS.T.copy()).T,
    "lazily negated tensor": torch.view_as_complex(torch.tensor(np.stack([ROWS, -ROWS], -1))).conj().imag,
    "fortran": np.asfortranarray(ROWS),
    "big-endian": ROWS.astype(">f8"),
    "memory view": memoryview(ROWS),
    "long double": ROWS.astype(np.longdouble),
    "every second of a larger one": np.repeat(ROWS, 2, axis=0)[::2],
    "masked without a mask": np.ma.masked_array(ROWS),
    "object": ROWS.astype(object),
    "array of arrays": cells(ROWS),
    "array-like": ArrayLike(ROWS),
    "frame": pd.DataFrame(ROWS, columns=list("abcde")),
    "nullable frame": pd.DataFrame(ROWS).convert_dtypes(),
    "frame with names of two levels": TWO_LEVELS,
    "frame with names of bytes": pd.DataFrame(ROWS, columns=[b"a", b"b", b"c", b"d", b"e"]),
    "frame of objects": pd.DataFrame(ROWS, columns=list("abcde")).astype(object),
    "frame of decimals": pd.DataFrame(
        [[Decimal(float(value)) for value in row] for row in ROWS], columns=list("abcde")
    ),
    "frame of categories": pd.DataFrame(ROWS, columns=list("abcde")).astype("category"),
    "frame with a column of arrays": pd.DataFrame({"embedding": list(ROWS)}),
    "frame with a column of lists": pd.DataFrame({"embedding": ROWS.tolist()}),
    "series of arrays": pd.Series(list(ROWS)),
    "arrow table": pa.table({name: ROWS[:, place] for place, name in enumerate("abcde")}),
    "arrow batch": pa.record_batch({name: ROWS[:, place] for place, name in enumerate("abcde")}),
    "arrow table with a list column": pa.table({"embedding": ROWS.tolist()}),
    "dataset": TensorDataset(torch.tensor(ROWS), torch.zeros(12)),
    "list of a dataset's pairs": list(TensorDataset(torch.tensor(ROWS), torch.zeros(12))),
    "list of pairs": [(row, "label") for row in ROWS],
    "items that are lists": Items(ROWS.tolist()),
    "items that are tuples of numbers": Items([tuple(row) for row in ROWS.tolist()]),
    "items of a list and a label": Items([(row, 3) for row in ROWS.tolist()]),
    "dictionaries": Items([{"embedding": row, "label": 1} for row in ROWS.tolist()]),
    "list of dictionaries": [{"features": row, "label": 1} for row in ROWS],
}


@pytest.mark.parametrize("form", VECTORS)
def test_embeddings_of_every_form_are_the_same_numbers(form: str) -> None:
    source = open_source(VECTORS[form])
    assert np.allclose(source.items.take(torch.arange(12)).numpy(), ROWS, rtol=1e-6)
    assert (source.items.spec.kind, source.items.spec.dim) == ("embeddings", 5)
    again = open_source(VECTORS[form], like=source.items.spec)
    assert torch.equal(again.items.take(torch.arange(12)), source.items.take(torch.arange(12)))  # as `predict` reads it
    assert absolute_path(VECTORS[form]) is None  # what the record of a run keeps of where they lie


def test_infinity_is_named_whatever_numpy_does_of_errors() -> None:
    rows = ROWS.copy()
    rows[3, 1], rows[4, 1] = np.inf, -np.inf
    with np.errstate(all="raise"), pytest.raises(InputError, match=r"infinity .*row 3, column 1"):
        open_source(rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int8, torch.bool])
def test_tensors_of_every_dtype_keep_their_values(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).to(dtype)
    assert open_source(tensor).items.take(torch.arange(3)).tolist() == [[0, 1], [1, 0], [1, 1]]


@pytest.mark.filterwarnings("ignore:.*quantize.*:UserWarning")
def test_quantised_tensors_are_read_as_what_they_stand_for() -> None:
    tensor = torch.quantize_per_tensor(torch.tensor([[0.0, 0.5], [1.0, 2.0]]), 0.5, 0, torch.qint8)
    assert open_source(tensor).items.take(torch.arange(2)).tolist() == [[0, 0.5], [1, 2]]


def as_pictures(pixels: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(one) for one in pixels]


PICTURES = {
    "array": PIXELS,
    "list of arrays": list(PIXELS),
    "list of tensors": [torch.tensor(one).permute(2, 0, 1) for one in PIXELS],
    "list of lists": PIXELS.tolist(),
    "pillow": as_pictures(PIXELS),
    "tuple of pillow": tuple(as_pictures(PIXELS)),
    "pillow and label": [(picture, 3) for picture in as_pictures(PIXELS)],
    "dictionaries": Items([{"image": picture, "label": 0} for picture in as_pictures(PIXELS)]),
    "lists in dictionaries": Items([{"image": one, "label": 0} for one in PIXELS.tolist()]),
}


def taken(source: Source) -> np.ndarray:
    return source.items.take(torch.arange(len(source.items))).numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("form", PICTURES)
def test_pictures_of_every_form_are_the_same_pixels(form: str) -> None:
    assert np.array_equal(taken(open_source(PICTURES[form])), PIXELS)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for row, picture in enumerate(as_pictures(PIXELS)):
        picture.save(tmp_path / f"{5 - row}.png")
    return [tmp_path / f"{5 - row}.png" for row in range(6)]


@pytest.mark.parametrize("form", ["paths", "texts", "bytes", "array", "series", "frame", "tuple"])
def test_a_list_of_paths_are_those_pictures_in_that_order(files: list[Path], form: str) -> None:
    texts = [str(path) for path in files]
    given: dict[str, Any] = {
        "paths": files,
        "texts": texts,
        "bytes": [text.encode() for text in texts],
        "array": np.array(texts),
        "series": pd.Series(texts),
        "frame": pd.DataFrame({"path": texts}),
        "tuple": tuple(texts),
    }
    source = open_source(given[form])
    assert np.array_equal(taken(source), PIXELS)
    assert list(source.ids) == texts


def test_a_path_may_be_bytes(files: list[Path]) -> None:
    assert np.array_equal(taken(open_source(str(files[0].parent).encode())), PIXELS[::-1])


def test_paths_that_are_no_pictures_are_named_and_none_is_skipped(files: list[Path]) -> None:
    (files[0].parent / "text.png").write_text("no picture")
    for other, message in {
        "text.png": "text.png in the list of 7 paths cannot be read",
        "nowhere.png": "Item 6, .*nowhere.png.*no such file",
        "": "Item 6, .* is no file; a list is taken for the paths of picture files",
    }.items():
        with pytest.raises(InputError, match=message):
            open_source([*files, files[0].parent / other])
    with pytest.raises(InputError, match="Item 1 of the list is a int, but the first is a path"):
        open_source([files[0], 3])
    twice = open_source([files[0], files[1], files[0]])
    assert (list(twice.ids), len(twice.notes)) == (["0", "1", "2"], 1)


def test_pictures_of_several_sizes_are_brought_to_one() -> None:
    arrays = [np.full((8 + row, 9, 3), 40 * row, np.uint8) for row in range(4)]
    for given in (arrays, as_pictures(arrays), [torch.tensor(one).permute(2, 0, 1) for one in arrays]):  # type: ignore[arg-type]
        source = open_source(given)
        assert taken(source).mean((1, 2, 3)).tolist() == [0, 40, 80, 120]
        assert any("4 different sizes" in note for note in source.notes)


CONTENT = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
MASKED = np.ma.masked_array(ROWS, np.arange(60).reshape(12, 5) == 13)
STRUCTURED = np.zeros(9, dtype=[("width", "f4"), ("height", "f4")])
TIMES = np.arange(6).astype("datetime64[s]").reshape(3, 2)
REFUSED = {
    "none": (None, "None is no source"),
    "int": (3, "3 is no source"),
    "float": (2.5, "is no source"),
    "bool": (True, "is no source"),
    "numpy number": (np.float32(1), "is no source"),
    "object": (object(), "An object is no source"),
    "clusterer": (Clusterer(3), "A Clusterer is no source"),
    "zero axes": (np.array(3.0), r"Reshape your data to \(n, d\): array has the shape \(\)"),
    "one axis": (ROWS[0], r"\(one item is array\[None\]"),
    "list of numbers": (ROWS[0].tolist(), "Reshape your data"),
    "series of numbers": (pd.Series(ROWS[0]), "Reshape your data"),
    "empty list": ([], r"The list is empty"),
    "dictionary": ({"train": ROWS, "test": ROWS}, r"give one of the values that it holds \(train, test\)"),
    "set": ({1, 2}, "A set has no order"),
    "generator": ((row for row in ROWS), "can be read only once; give a list"),
    "iterator": (iter(ROWS), "can be read only once"),
    "open file": (io.BytesIO(b"x"), "give its path"),
    "class": (TensorDataset, "give an instance of it"),
    "lazy frame": (Lazy(), r"give what its collect\(\) returns"),
    "query": (Query(), r"give what its fetchdf\(\) returns"),
    "stream of arrow": (pa.table({"a": ROWS[:, 0]}).to_reader(), r"give what its read_all\(\) returns"),
    "loader": (DataLoader(TensorDataset(torch.tensor(ROWS))), r"give its Dataset \(loader.dataset\)"),
    "iterable dataset": (Endless(), "only map-style Datasets"),
    "one picture of pillow": (as_pictures(PIXELS)[0], r"\[picture\] for one"),
    "one grey picture of pillow": (Image.new("L", (9, 9)), "give a list of pictures"),
    "one picture": (PIXELS[0], r"one picture without a batch axis: give array\[None\]"),
    "one picture in a tensor": (torch.tensor(PIXELS[0]).permute(2, 0, 1), r"one picture of three channels or three"),
    "pair": ((PIXELS[..., 0].reshape(6, -1), np.zeros(6)), "a pair of items and labels; give the items alone"),
    "training and test": ((ROWS[:8], ROWS[8:]), "may be tables of embeddings or grey pictures"),
    "equal halves": ((ROWS[:6], ROWS[6:]), "give one array of all rows"),
    "blocks of rows": ([ROWS[:5], ROWS[5:9], ROWS[9:]], r"numpy\.concatenate"),
    "blocks of rows in tensors": ([torch.tensor(ROWS[:5]), torch.tensor(ROWS[5:])], r"numpy\.concatenate"),
    "ragged": ([[1.0, 2], [3, 4], [5]], "Row 2 of the list has 1 values and row 0 has 2"),
    "ragged arrays": ([ROWS[0], ROWS[1][:3]], r"Item 1 of the list has the shape \(3,\)"),
    "rows and a number": ([[1.0, 2], 3], "Row 1 of the list has no row of values"),
    "texts of numbers": ([["1", "2"], ["3", "4"]], "holds text"),
    "texts as objects": (np.array([["1", 2.0], [3.0, 4.0]], dtype=object), "but text, '1'"),
    "mixed objects": (np.array([[None, {}], [3.0, 4.0]], dtype=object), "Row 0, column 1 .* no real number"),
    "missing values": ([[None, 1.0], [3.0, 4.0]], "NaN: row 0, column 0"),
    "missing values of pandas": (pd.DataFrame({"a": [1, None, 3], "b": [1, 2, 3]}, dtype="Int64"), "row 1|Row 1"),
    "days in a frame": (pd.DataFrame({"a": [1.0, 2], "day": pd.date_range("2020", periods=2)}), r"times \(day\)"),
    "zones in a frame": (
        pd.DataFrame({"a": [1.0, 2], "at": pd.date_range("2020", periods=2, tz="UTC")}),
        r"times \(at\)",
    ),
    "spans in a frame": (pd.DataFrame({"a": [1.0, 2], "for": pd.Timedelta("1s")}), r"times \(for\)"),
    "a frame with its style": (pd.DataFrame(ROWS, columns=list("abcde")).style, "A Styler is no source"),
    "texts in a frame": (pd.DataFrame({"a": [1.0, 2], "b": ["x", "y"]}), "columns that are not numbers"),
    "vectors beside numbers": (pd.DataFrame({"v": list(ROWS), "width": range(12)}), r"frame\['v'\]"),
    "vectors beside names": (pd.DataFrame({"name": list("abcdefghijkl"), "v": list(ROWS)}), r"frame\['v'\]"),
    "contents": ([CONTENT] * 9, r"content of a file, .*PIL\.Image\.open\(io\.BytesIO"),
    "open files": ([io.BytesIO(CONTENT)] * 9, "content of a file"),
    "pictures of datasets": ([{"bytes": CONTENT, "path": None}] * 9, "content of a file"),
    "a first vector that is missing": (pd.DataFrame({"v": [None, *list(ROWS)[1:]]}), "Row 0 .* is empty in column v"),
    "a later vector that is missing": (pd.DataFrame({"v": [*list(ROWS)[:-1], None]}), "Row 11 .* is empty in column v"),
    "a first path that is missing": (pd.DataFrame({"path": [None, "a.png", "b.png"]}), "Row 0 .* is empty in column"),
    "texts after an empty cell": (pd.DataFrame({"a": [1.0, 2], "b": [None, "y"]}), r"are not numbers \(b\)"),
    "a column of contents": (pd.DataFrame({"image": [CONTENT] * 9}), "content of a file"),
    "a column of pictures of datasets": (pd.DataFrame({"image": [{"bytes": CONTENT, "path": "a"}] * 9}), "content of"),
    "a label added to numbered columns": (pd.DataFrame(ROWS).assign(label=3), r"ids or row numbers are \(label\)"),
    "a label added to names of two levels": (
        TWO_LEVELS.reset_index().set_axis(
            pd.MultiIndex.from_tuples([("index", ""), *TWO_LEVELS.columns[1:], ("label", "")]), axis=1
        ),
        r"\(index, label\), among its 6",
    ),
    "a label whose name is of bytes": (pd.DataFrame(ROWS, columns=[b"a", b"b", b"c", b"d", b"label"]), r"\(label\)"),
    "classes, ids and numbers of rows": (
        pd.DataFrame(ROWS, columns=list("abcde")).assign(species_id=1, image_id=range(12), Fine_Label=2).reset_index(),
        r"\(index, species_id, Fine_Label, image_id\), among its 9",
    ),
    "an id in a table of arrow": (pa.table({"id": range(12), "a": ROWS[:, 0], "b": ROWS[:, 1]}), r"\(id\)"),
    "integers beyond every float": ([[10**400, row] for row in range(9)], "Row 0, column 0 .* float64 can hold"),
    "no columns": (pd.DataFrame(index=range(4)), "is empty"),
    "complex array": (ROWS.astype(np.complex64), "Complex data not supported"),
    "complex list": ([[1j, 2], [3, 4]], "Complex data not supported"),
    "complex numbers as objects": (np.array([[1j, 2], [3, 4]], dtype=object), "no real number"),
    "complex tensor": (torch.tensor(ROWS).to(torch.complex64), "Complex data not supported"),
    "complex tensors": ([torch.tensor(row).to(torch.complex64) for row in ROWS], "Complex data not supported"),
    "complex images": (torch.zeros(3, 3, 9, 9, dtype=torch.complex64), "Complex data not supported"),
    "structured": (STRUCTURED, "structured array with the fields width, height"),
    "records": (STRUCTURED.view(np.recarray), "structured array"),
    "times": (TIMES, "holds times"),
    "durations": (TIMES - TIMES[0, 0], "holds times"),
    "bytes": (np.array([[b"1", b"2"]]), "holds text"),
    "void": (np.zeros((3, 2), "V4"), "must be numbers"),
    "masked": (MASKED, r"masked values, the first at \(2, 3\)"),
    "sparse": (sparse.csr_array(ROWS), "Sparse input is not supported"),
    "sparse tensor": (torch.tensor(ROWS).to_sparse(), "Sparse input is not supported"),
    "list of sparse tensors": ([torch.tensor(row).to_sparse() for row in ROWS], "Sparse input is not supported"),
    "meta": (torch.empty(9, 4, device="meta"), "holds no values"),
    "zero features": (np.empty((5, 0)), r"0 feature\(s\)"),
    "one row many times": (np.broadcast_to(ROWS[0], (9, 5)), "constant"),
    "fewer items than it says": (Items(list(ROWS), 20), "says that it has 20 items, but gives none by the number 12"),
    "fewer pictures than it says": (
        Items(as_pictures(PIXELS), 9),
        "says that it has 9 items, but gives none by the nu",
    ),
    "a vector that cannot be read": (Items([ROWS[0], OSError("gone")]), r"Item 1 of .*\(OSError: gone\)"),
    "nothing that can be read": (Items([OSError("gone")] * 3), "No item of the Dataset Items can be read"),
    "items of text": (Items(["a", "b"]), "Item 0 of the Dataset Items is of type str"),
    "items of numbers": (range(9), "Item 0 of the Dataset range is of type int"),
    "items of complex numbers": (Items(list(ROWS.astype(np.complex64))), "array of dtype complex64"),
    "items with a label first": (Items([(3, row) for row in ROWS]), "Item 0 of the Dataset Items is of type tuple"),
    "dictionaries without an image": (Items([{"text": "a"}] * 3), "a dict of text, but it must have exactly one of"),
    "dictionaries with two": (Items([{"image": 1, "embedding": 2}] * 3), "must have exactly one of"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_all_else_gets_one_sentence_that_says_what_to_give(form: str) -> None:
    given, message = REFUSED[form]
    with pytest.raises(InputError, match=message) as caught:
        open_source(given)
    text = str(caught.value)
    assert "\n" not in text
    assert "reshape(-1" not in text
    assert len(text) < 400
    assert not any(foreign in text for foreign in ("numpy.core", "sklearn", "torch._C", "pandas."))


def test_one_picture_is_no_batch_for_a_fitted_model_either() -> None:
    grey, colour = ItemSpec("images", 1, 20, 18), ItemSpec("images", 3, 20, 18)
    for given, like in (
        (PIXELS[0, ..., 0], grey),
        (PIXELS[0, ..., :1], grey),
        (PIXELS[0], colour),
        (torch.tensor(PIXELS[0]).permute(2, 0, 1), colour),
        (PIXELS[0].transpose(2, 0, 1), colour),
    ):
        with pytest.raises(InputError, match=r"give array\[None\]"):
            open_source(given, like=like)
        assert len(open_source(given[None], like=like).items) == 1
    assert len(open_source([as_pictures(PIXELS)[0]], like=colour).items) == 1


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_tensors_of_rows_of_several_lengths_and_compressed_ones_are_refused() -> None:
    with pytest.raises(InputError, match="is nested"):
        open_source(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]))
    with pytest.raises(InputError, match="Sparse input is not supported"):
        open_source(torch.tensor(ROWS).to_sparse_csr())


def test_arrays_beside_pictures_of_more_than_a_byte_are_refused() -> None:
    wide = Image.fromarray(PIXELS[0, ..., 0].astype(np.uint16) * 200)
    for given, where in (
        ([wide, PIXELS[0, ..., 0]], "The list"),
        (Items([wide, PIXELS[0, ..., 0]]), "The Dataset Items"),
    ):
        with pytest.raises(InputError, match=f"{where} mixes arrays with Pillow images of more than 8 bits"):
            open_source(given)


def test_pictures_that_were_closed_unread_are_named(tmp_path) -> None:
    paths = [tmp_path / f"{row}.png" for row in range(4)]
    pictures = []
    for path, picture in zip(paths, as_pictures(PIXELS), strict=False):
        picture.save(path)
        with Image.open(path) as opened:
            pictures.append(opened)
    with pytest.raises(
        InputError, match=r"^Item 0 of the list is a picture that was closed before it was read: give its"
    ):
        open_source(pictures)
    loaded = as_pictures(PIXELS)
    loaded[2].close()
    with pytest.raises(InputError, match=r"^Item 2 of the list is a picture that was closed"):
        open_source(loaded)


def test_a_damaged_first_picture_of_a_list_is_skipped_as_any_other(tmp_path) -> None:
    paths = [tmp_path / f"{row}.png" for row in range(len(PIXELS))]
    for path, picture in zip(paths, as_pictures(PIXELS), strict=True):
        picture.save(path)
    paths[0].write_bytes(paths[0].read_bytes()[:600])
    opened = [Image.open(path) for path in paths]
    source = open_source(opened, max_skipped=0.5)
    assert [item.id for item in source.skipped] == ["0"]
    assert len(source.items) == len(PIXELS) - 1
    for picture in opened:
        picture.close()


def test_a_path_that_is_not_there_is_not_taken_for_a_misspelt_name() -> None:
    with pytest.raises(InputError, match=r"^/nonexistent is no file, no folder and no named data set: check the path"):
        open_source("/nonexistent")
    with pytest.raises(InputError, match="did you mean digits"):
        open_source("digit")
