"""What lies beside `run.yaml`: history, metrics, table, arrays. Damaged, doctored, or of another run."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from coterie.prediction.results import read_result
from coterie.records.arrays import read_arrays
from coterie.records.history import read_lines
from coterie.records.metrics import read_foreign, read_metrics
from coterie.report import write_report
from coterie.report.read import read_run
from coterie.training.history import read_history
from coterie.types import InputError

MakeFolder = Callable[..., Path]


# History


def test_a_last_line_that_was_cut_off_is_left_out_and_no_other(folder: MakeFolder) -> None:
    path = folder() / "history.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"stage": "cd')
    assert [line["epoch"] for line in read_lines(path)] == [1, 2]
    path.write_text('{"stage": "cd\n' + whole)
    with pytest.raises(InputError, match=r"Line 1 of .*history.jsonl"):
        read_lines(path)


def test_a_line_of_a_newer_version_is_read(folder: MakeFolder) -> None:
    path = folder() / "history.jsonl"
    path.write_text('{"stage": "cdc", "epoch": 3, "losses": {"a": NaN}, "memory": [1, 2]}\n')
    (line,) = read_history(path).records
    assert (line.stage, line.epoch, line.seconds) == ("cdc", 3, 0.0)
    assert np.isnan(line.losses["a"])


@pytest.mark.parametrize(
    "line",
    [
        "[1, 2]",
        '{"epoch": 1}',
        '{"stage": "cdc", "epoch": "one"}',
        '{"stage": "cdc", "epoch": -3}',
        '{"stage": "cdc", "losses": [1]}',
        '{"stage": "cdc", "losses": {"a": "x"}}',
        '{"stage": "cdc", "seconds": -1}',
        '{"stage": "cdc", "confidence_histogram": [1.5]}',
        '{"stage": "cdc", "losses": ' + '{"a": ' * 3000 + "1" + "}" * 3001,
        '{"stage": "cdc", "epoch": 1' + "0" * 5000 + "}",
    ],
)
def test_a_line_of_another_kind_is_named(folder: MakeFolder, line: str) -> None:
    run = folder()
    (run / "history.jsonl").write_text(f"{line}\n" + '{"stage": "cdc"}\n')
    for read in (lambda: read_history(run / "history.jsonl"), lambda: write_report(run)):
        with pytest.raises(InputError, match=r"Line 1 of .*history.jsonl"):
            read()
    (run / "history.jsonl").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"history.jsonl is not in UTF-8"):
        write_report(run)


# Metrics


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {"acc": "high"},
        {"acc": 2.0},
        {"acc": 0.5, "n": 5},
        {"acc": 0.5, "confidence": 0.5, "heads": {"cal": [1]}},
        {"acc": 0.5, "confidence": 0.5, "heads": {"cal": {"acc": "x"}}},
        {"acc": 0.5, "confidence": 0.5, "intervals": {"acc": [0, 1]}},
        {"acc": 0.5, "confidence": 0.5, "intervals": {"level": 0.95, "acc": [0, 1, 2]}},
        {"acc": 0.5, "confidence": 0.5, "per_cluster": [{"class": "a"}]},
        {"acc": 0.5, "confidence": 0.5, "per_cluster": {"0": "a"}},
        {"acc": 0.5, "confidence": 0.5, "reliability": [{"lower": 0}]},
        {"acc": 0.5, "confidence": 0.5, "reliability": [{"lower": 0, "upper": 0.5, "count": 3, "accuracy": 0.5}]},
        {"acc": 0.5, "confidence": 0.5, "acceptance": [5]},
        {"acc": 0.5, "confidence": 0.5, "acceptance": [{"threshold": 0.5, "count": 3, "share": 0.25}]},
        {"acc": 0.5, "confidence": 0.5, "classes": ["a"], "confusion": {"clusters": [0, 1], "counts": [[1]]}},
        {"acc": 0.5, "confidence": 0.5, "classes": ["a", "b"], "confusion": {"clusters": [0], "counts": [[1]]}},
    ],
)
def test_metrics_of_another_kind_are_named(folder: MakeFolder, content: Any) -> None:
    run = folder()
    for text in (json.dumps(content), json.dumps(content)[:-1]):
        (run / "metrics.json").write_text(text)
        with pytest.raises(InputError, match=r"metrics.json is damaged: .*: delete it, and give the command again"):
            write_report(run)


OFF = {"confidence": 0.9, "accuracy": 0.8, "gap": 0.1, "gap_interval": [0, 0.2], "ece": 0.1, "by_chance": 0, "p": 0.1}
OTHERS: dict[str, dict[str, Any]] = {
    "recalibration.json": {"map": {"kind": "beta", "theta": [1.0]}, "before": OFF, "after": OFF, "judged": 30},
    "duplicates.json": {
        "n": 12,
        "items": 2,
        "split": 0,
        "sets": [{"items": ["item 0", "item 1"], "exact": True, "groups": [0], "together": 0}],
    },
    "choose_k.json": {"k": 3, "clear": True, "notes": ["few items"]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_another_file_lacks_or_has_of_another_kind_is_named(folder: MakeFolder, name: str) -> None:
    run, whole = folder(), OTHERS[name]
    (run / name).write_text(json.dumps(whole))
    write_report(run)
    damaged = [{key: value for key, value in whole.items() if key != gone} for gone in whole if gone != "notes"]
    damaged += [{**whole, key: value} for key in whole for value in (-1, [[1]], {"a": None})]
    for content in damaged:
        (run / name).write_text(json.dumps(content))
        with pytest.raises(InputError, match=rf"{name} is damaged: .*: delete it, and give the command again"):
            write_report(run)


def test_numbers_that_json_has_but_no_metric(folder: MakeFolder) -> None:
    run = folder()
    for text in ('{"acc": NaN}', '{"acc": 1e999}', "{", '{"acc": 1' + "0" * 5000 + "}", "[" * 5000 + "]" * 5000):
        (run / "metrics.json").write_text(text)
        with pytest.raises(InputError, match=r"metrics.json"):
            read_metrics(run / "metrics.json")
    (run / "ood.json").write_text("[1]")
    with pytest.raises(InputError, match=r"ood.json"):
        read_foreign(run / "ood.json")
    assert read_foreign(run / "none.json") == {}


# The result table


def table(run: Path, change: Callable[[dict[str, Any]], object], metadata: dict[str, str] | None = None) -> None:
    found = pq.read_table(run / "result.parquet")
    columns = {name: found[name].combine_chunks() for name in found.column_names}
    change(columns)
    kept = metadata if metadata is not None else found.schema.metadata
    pq.write_table(pa.table(columns).replace_schema_metadata(kept), run / "result.parquet")


def rows(p: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(p.astype(np.float32).ravel()), p.shape[1])


def halves(columns: dict[str, Any], factor: float) -> None:
    p = columns["probabilities"].flatten().to_numpy().reshape(12, 3).copy()
    p[4] *= factor
    columns["probabilities"] = rows(p)


TABLES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "more groups": (lambda c: c.update(label=pa.array([9] * 12, pa.int32())), "row 0 is in group 9"),
    "a negative group": (lambda c: c.update(label=pa.array([0] * 11 + [-1], pa.int32())), "row 11 is in group -1"),
    "groups as text": (lambda c: c.update(label=pa.array(["a"] * 12)), "label holds string"),
    "no group": (lambda c: c.update(label=pa.array([None] * 12, pa.int32())), "empty places"),
    "too sure": (lambda c: c.update(confidence=pa.array(np.full(12, 1.5, np.float32))), "no probability"),
    "not a number": (lambda c: c.update(confidence=pa.array(np.full(12, np.nan, np.float32))), "no probability"),
    "an id twice": (lambda c: c.update(id=pa.array(["same"] * 2 + [str(i) for i in range(10)])), "'same' stands"),
    "no id": (lambda c: c.update(id=pa.array([None] + [str(i) for i in range(11)])), "empty places"),
    "ids as numbers": (lambda c: c.update(id=pa.array(range(12))), "id holds int64"),
}
ROWS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "more than 1": (lambda c: halves(c, 2.0), "row 4 .* sum to 1"),
    "less than 1": (lambda c: halves(c, 0.5), "row 4 .* sum to 1"),
    "negative": (lambda c: c.update(probabilities=rows(np.tile([1.5, -0.5, 0.0], (12, 1)))), "sum to 1"),
    "nan": (lambda c: c.update(probabilities=rows(np.full((12, 3), np.nan))), "sum to 1"),
    "of other groups": (lambda c: c.update(probabilities=rows(np.tile([0.1, 0.1, 0.8], (12, 1)))), "are not those of"),
    "a head of another k": (lambda c: c.update(probabilities_clu=rows(np.full((12, 2), 0.5))), "head clu has 2"),
    "as text": (lambda c: c.update(probabilities=pa.array(["x"] * 12)), "not a result table|no row of numbers"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_doctored_table_is_named_by_both_readers(folder: MakeFolder, kind: str) -> None:
    run = folder()
    change, words = TABLES[kind]
    table(run, change)
    for read in (lambda: read_run(run), lambda: read_result(run / "result.parquet", 12, 3)):
        with pytest.raises(InputError, match=words) as caught:
            read()
        assert "result.parquet" in str(caught.value)


@pytest.mark.parametrize("kind", ROWS)
def test_rows_that_are_no_distribution_are_named(folder: MakeFolder, kind: str) -> None:
    run = folder()
    change, words = ROWS[kind]
    table(run, change)
    with pytest.raises(InputError, match=words):
        read_result(run / "result.parquet")


def test_a_table_of_another_run_is_said(folder: MakeFolder) -> None:
    run = folder(source={"n": 11, "fingerprint": "x"}, n_clusters=3)
    with pytest.raises(InputError, match=r"has 12 rows, but run.yaml says source.n is 11"):
        read_run(run)
    with pytest.raises(InputError, match=r"has 3 groups, but the run's run.yaml says 4"):
        read_result(run / "result.parquet", 12, 4)
    with pytest.raises(InputError, match="has 12 items"):
        read_result(run / "result.parquet", 13, 3)


def test_a_table_that_asks_for_too_many_groups_is_refused_before_it_is_spread(folder: MakeFolder) -> None:
    run = folder()

    def cut(columns: dict[str, Any]) -> None:
        p = columns.pop("probabilities").flatten().to_numpy().reshape(12, 3)
        columns.pop("probabilities_clu")
        order = np.argsort(-p, axis=1)[:, :2]
        columns["top_labels"] = pa.FixedSizeListArray.from_arrays(pa.array(order.ravel().astype(np.int32)), 2)
        columns["top_probabilities"] = rows(np.take_along_axis(p, order, axis=1))
        columns["remainder"] = pa.array(1 - np.take_along_axis(p, order, axis=1).sum(1))

    table(run, cut, {"coterie.heads": "cal", "coterie.k": "3"})
    assert read_result(run / "result.parquet").k == 3
    for k in ("1000000000", "-3", "x", "1"):
        table(run, lambda columns: None, {"coterie.heads": "cal", "coterie.k": k})
        with pytest.raises(InputError, match=r"result.parquet"):
            read_result(run / "result.parquet")


@pytest.mark.parametrize("seed", range(12))
def test_damaged_parquet_is_an_input_error_or_the_same_table(folder: MakeFolder, seed: int) -> None:
    path = folder() / "result.parquet"
    whole, before = bytearray(path.read_bytes()), read_result(path)
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(whole) - 4, 1 + seed % 4):
        whole[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(whole[: len(whole) - (seed % 3) * 7]))
    found = None
    with suppress(InputError):
        found = read_result(path)
    assert found is None or len(found.ids) == len(before.ids)


# Arrays


def member(path: Path, name: str, header: dict[str, Any], content: bytes = b"") -> None:
    text = repr(header).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{name}.npy", start + content)


FORM = {"rows": ("iu", 1), "xy": ("f", 2)}


def test_arrays_come_back(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", rows=np.arange(3), xy=np.zeros((3, 2), np.float32), more=np.zeros(9))
    found = read_arrays(tmp_path / "a.npz", FORM)
    assert found is not None
    assert found["rows"].tolist() == [0, 1, 2]
    assert found["xy"].shape == (3, 2)
    assert read_arrays(tmp_path / "b.npz", FORM) is None


@pytest.mark.parametrize("shape", [(10**15,), (-3,), (2**62, 4), "x"])
def test_a_size_that_the_file_cannot_hold_is_refused(tmp_path: Path, shape: Any) -> None:
    member(tmp_path / "a.npz", "rows", {"descr": "<i8", "fortran_order": False, "shape": shape}, b"\0" * 24)
    with pytest.raises(InputError, match=r"a.npz is damaged"):
        read_arrays(tmp_path / "a.npz", FORM)


def test_a_zip_that_grows_is_refused(tmp_path: Path) -> None:
    header = {"descr": "<i8", "fortran_order": False, "shape": (4_000_000,)}
    member(tmp_path / "a.npz", "rows", header, bytes(32_000_000))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data.replace(struct.pack("<I", 32_000_128), struct.pack("<I", 4_000_000_000)))
    with pytest.raises(InputError, match=r"a.npz is damaged"):
        read_arrays(tmp_path / "a.npz", FORM)


def test_maps_and_galleries_of_another_run_are_named(folder: MakeFolder) -> None:
    run = folder()
    np.savez(run / "map.npz", rows=np.array([0, 99]), xy=np.zeros((2, 2), np.float32))
    with pytest.raises(InputError, match=r"map.npz does not fit result.parquet"):
        write_report(run)
    np.savez(run / "map.npz", rows=np.arange(2), xy=np.full((2, 2), np.nan, np.float32))
    with pytest.raises(InputError, match=r"map.npz is damaged"):
        write_report(run)
    (run / "map.npz").unlink()
    arrays = {"cluster": np.zeros(2, int), "kind": np.zeros(2, int), "ids": np.array(["a", "b"])}
    np.savez(run / "gallery.npz", rows=np.array([5, -1]), images=np.zeros((2, 4, 4, 3), np.uint8), **arrays)
    with pytest.raises(InputError, match=r"gallery.npz does not fit"):
        write_report(run)
    np.savez(run / "gallery.npz", rows=np.arange(2), images=np.zeros((1, 4, 4, 3), np.uint8), **arrays)
    with pytest.raises(InputError, match=r"gallery.npz is damaged"):
        write_report(run)


@pytest.mark.parametrize("name", ["history.jsonl", "metrics.json", "result.parquet", "gallery.npz", "map.npz"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder: MakeFolder, name: str) -> None:
    run = folder()
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(InputError, match=f"{name} is a named pipe"):
        write_report(run)


def test_a_status_that_nobody_knows_is_said(folder: MakeFolder) -> None:
    run = folder(status="paused <b>")
    page = write_report(run).read_text()
    assert "The status of this run is paused &lt;b&gt;" in page


@pytest.mark.parametrize("kind", ["pipe", "folder", "Latin-1"])
def test_what_is_no_file_of_text_is_not_called_wrong_json(folder: MakeFolder, kind: str) -> None:
    path = folder() / "metrics.json"
    path.unlink(missing_ok=True)
    if kind == "Latin-1":
        path.write_bytes(b'{"labels": "caf\xe9"}')
    else:
        (os.mkfifo if kind == "pipe" else os.mkdir)(path)
    with pytest.raises(InputError) as failed:
        read_metrics(path)
    assert "JSON" not in str(failed.value)
    assert str(failed.value).count(str(path)) == 1


@pytest.mark.parametrize("count", [-1, 2.5, "3", 10**400])
def test_the_entry_is_named_without_the_forms_it_may_have(folder: MakeFolder, count: object) -> None:
    path = folder()
    content = yaml.safe_load((path / "run.yaml").read_text()) | {"n_clusters": count}
    (path / "run.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="is damaged: n_clusters cannot be "):
        read_run(path)
