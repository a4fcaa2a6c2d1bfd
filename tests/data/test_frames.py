"""Tables and arrays in memory, and whole numbers that floats would round."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from coterie.data import open_source
from coterie.types import InputError
from helpers.tables import CODES, FLOATS, VECTORS, values


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


@pytest.mark.parametrize("name", ["fine_label", "species_id", "image_id", "Target", "index"])
def test_a_frame_with_labels_ids_or_row_numbers_is_refused(name):
    with pytest.raises(InputError, match=name):
        open_source(pd.DataFrame({**FLOATS, name: CODES}))


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
