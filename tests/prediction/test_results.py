from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coterie.prediction.results import ALL_UP_TO, TOP, read_result, write_result
from coterie.types import Assignments, InputError


def probabilities(n: int, k: int, seed: int = 0, sharpness: float = 3.0) -> Tensor:
    return (sharpness * torch.randn(n, k, generator=torch.Generator().manual_seed(seed))).softmax(1)


def ids(n: int) -> list[str]:
    return [f"größe/{i:03}.png" for i in range(n)]


@given(n=st.integers(1, 20), k=st.integers(2, 40), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_a_table_comes_back_as_it_was(n: int, k: int, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("result") / "result.parquet"
    cal, clu, embedding = probabilities(n, k, seed), probabilities(n, k, seed + 1), torch.randn(n, 5)
    write_result(path, Assignments(ids(n), cal, {"cal": cal, "clu": clu}, embedding))
    found = read_result(path)
    assert found.ids == ids(n)
    assert np.array_equal(found.labels, cal.argmax(1).numpy())
    assert np.array_equal(found.confidence, cal.amax(1).numpy())
    assert list(found.heads) == ["cal", "clu"]
    assert np.array_equal(found.heads["cal"], cal.numpy())
    assert np.array_equal(found.heads["clu"], clu.numpy())
    assert found.embedding is not None
    assert np.array_equal(found.embedding, embedding.numpy())


def test_anyone_can_read_the_table_without_coterie(tmp_path: Path) -> None:
    p = probabilities(6, 3)
    write_result(tmp_path / "r.parquet", Assignments(ids(6), p, {"cal": p}))
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.column_names == ["id", "label", "confidence", "probabilities"]
    assert table["label"].to_pylist() == p.argmax(1).tolist()
    np.testing.assert_array_equal(np.array(table["probabilities"].to_pylist(), np.float32), p.numpy())


@pytest.mark.parametrize("k", [ALL_UP_TO, ALL_UP_TO + 1, 1000])
def test_many_groups_keep_the_most_probable_ones_and_the_remainder(k: int, tmp_path: Path) -> None:
    p = probabilities(20, k)
    write_result(tmp_path / "r.parquet", Assignments(ids(20), p, {"cal": p, "clu": p}))
    found = read_result(tmp_path / "r.parquet")
    full = found.heads["cal"]
    assert np.array_equal(found.labels, p.argmax(1).numpy())
    assert np.array_equal(full.argmax(1), p.argmax(1).numpy())
    np.testing.assert_allclose(full.sum(1), 1, atol=1e-5)
    if k <= ALL_UP_TO:
        assert np.array_equal(full, p.numpy())
        return
    columns = pq.read_table(tmp_path / "r.parquet")
    assert "probabilities" not in columns.column_names
    top = p.topk(TOP, dim=1)
    for row in range(20):
        assert columns["top_labels"][row].as_py() == top.indices[row].tolist()
        kept = top.indices[row].numpy()
        assert np.array_equal(full[row, kept], top.values[row].numpy())
        others = np.delete(full[row], kept)
        np.testing.assert_allclose(others, (1 - top.values[row].sum()).clamp(min=0).item() / (k - TOP), atol=1e-7)


def test_of_groups_that_are_equally_likely_the_label_comes_first(tmp_path: Path) -> None:
    votes = torch.randint(0, 300, (64, 5), generator=torch.Generator().manual_seed(0))
    p = torch.zeros(64, 300).scatter_add_(1, votes, torch.full((64, 5), 0.2))
    write_result(tmp_path / "r.parquet", Assignments(ids(64), p, {"votes": p}))
    table = pq.read_table(tmp_path / "r.parquet")
    assert [row[0] for row in table["top_labels"].to_pylist()] == table["label"].to_pylist()


def test_a_table_of_another_kind_is_an_input_error_that_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    (tmp_path / "empty.parquet").write_bytes(b"")
    for name in ("other.parquet", "text.parquet", "empty.parquet", "missing.parquet"):
        with pytest.raises(InputError, match=name):
            read_result(tmp_path / name)


@pytest.mark.parametrize("left_out", ["probabilities", "label", "confidence", "id"])
def test_a_table_that_lacks_a_column_is_an_input_error_that_names_it(left_out: str, tmp_path: Path) -> None:
    p = probabilities(6, 3)
    write_result(tmp_path / "r.parquet", Assignments(ids(6), p, {"cal": p}))
    pq.write_table(pq.read_table(tmp_path / "r.parquet").drop_columns([left_out]), tmp_path / "cut.parquet")
    with pytest.raises(InputError, match=r"cut\.parquet"):
        read_result(tmp_path / "cut.parquet")
