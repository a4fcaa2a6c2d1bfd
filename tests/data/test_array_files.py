"""Files of arrays: what is in them is taken by what it is, and broken ones are named before anything is allocated."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray

from coterie.data import open_source
from coterie.data.array_files import read_npy, read_npz
from coterie.types import InputError

ROWS = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 8, 7), dtype=np.uint8)


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """The start of a .npy file with a header of one's own."""
    content = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    length = len(content).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + content


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 4), }"


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">i4", "<f2"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_layout_is_read(tmp_path: Path, dtype: str, version: tuple[int, int], order: str) -> None:
    rows = (np.arange(36).reshape(9, 4) % 7).astype(dtype)
    text = str({"descr": dtype, "fortran_order": order == "F", "shape": rows.shape})
    (tmp_path / "x.npy").write_bytes(header(text, version) + rows.tobytes(order))
    assert np.array_equal(open_source(tmp_path / "x.npy").items.take(torch.arange(9)).numpy(), rows.astype(np.float32))


@pytest.mark.parametrize(("content", "name"), [("npz", "x.npy"), ("npy", "x.npz")])
def test_a_file_under_the_other_name_is_read_as_what_it_is(tmp_path: Path, content: str, name: str) -> None:
    buffer = io.BytesIO()
    if content == "npz":
        np.savez(buffer, x=ROWS)
    else:
        np.save(buffer, ROWS)
    (tmp_path / name).write_bytes(buffer.getvalue())
    source = open_source(tmp_path / name)
    assert np.array_equal(source.items.take(torch.arange(9)).numpy(), ROWS)
    assert source.notes == [f"{name} is a .{content} file by its content and was read as one."]


def test_which_of_several_arrays_was_taken_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, embeddings=ROWS, images=PIXELS, labels=np.zeros((9, 1)))
    source = open_source(path)
    assert source.items.spec.kind == "images"
    assert source.notes[:1] == ["x.npz holds images (9, 8, 7), embeddings (9, 4): images was taken."]
    np.savez(path, embeddings=ROWS, labels=np.zeros(9), names=np.array(["a"] * 9))
    assert open_source(path).notes == []
    np.savez(path, embeddings=ROWS, ids=np.arange(9))
    assert open_source(path).notes == ["Items go by their number, and not by ids in x.npz."]
    np.savez(path, x=ROWS, labels=np.array([{}] * 9))
    assert open_source(path).items.spec.dim == 4


def test_a_key_with_one_axis_is_named_with_all_that_there_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", embeddings=ROWS, images=np.arange(9))
    with pytest.raises(InputError, match=r"images in .* is 1-D.*holds embeddings \(9, 4\), images \(9,\)"):
        open_source(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", a=ROWS, b=ROWS)
    with pytest.raises(InputError, match=r"holds a \(9, 4\), b \(9, 4\), and none of them is called images"):
        open_source(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=np.array(3))
    with pytest.raises(InputError, match=r"images in .* is 0-D"):
        open_source(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (np.zeros((5, 9, 9), np.uint8), r"train_images \(9, 8, 7\) of uint8 and test_images \(5, 9, 9\) of uint8"),
        (np.zeros((5, 8, 7), np.float32), r"test_images \(5, 8, 7\) of float32: items of one shape and one type"),
    ],
)
def test_parts_of_two_kinds_are_not_put_together(test: NDArray[Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=PIXELS, test_images=test)
    with pytest.raises(InputError, match=said):
        open_source(tmp_path / "x.npz")


def test_parts_of_one_kind_follow_each_other_whatever_the_order_of_their_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=PIXELS.astype("<f4"), test_images=PIXELS.astype(">f4"))
    assert len(open_source(tmp_path / "x.npz").items) == 18


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
def test_sparse_matrices_are_named(tmp_path: Path, form: str) -> None:
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.csr_matrix(ROWS[:8]).asformat(form))
    with pytest.raises(InputError, match=r"holds a sparse matrix of SciPy; save it dense, as matrix.toarray\(\)"):
        open_source(tmp_path / "x.npz")


def test_structured_and_complex_files_are_named(tmp_path: Path) -> None:
    for array, message in (
        (np.zeros(9, dtype=[("a", "f4"), ("b", "f4")]), "x is a structured array with the fields a, b"),
        (ROWS.astype(complex), "Complex data not supported: x"),
        (np.array(["a", "b"]), "x holds text"),
        (ROWS[0], r"x has the shape \(4,\)"),
        (np.float32(3), r"x has the shape \(\)"),
    ):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "x.npy")
        np.savez(tmp_path / "x.npz", x=array)
        with pytest.raises(InputError, match=message if np.ndim(array) > 1 else "x in .* is .-D"):
            open_source(tmp_path / "x.npz")


BROKEN = {
    "empty": b"",
    "text": b"no array",
    "magic alone": b"\x93NUMPY",
    "unknown version": header(PLAIN, (1, 0)).replace(b"\x01\x00", b"\x09\x00", 1) + ROWS.tobytes(),
    "header cut off": header(PLAIN)[:30],
    "no Python": header("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 4" + "(" * 20) + ROWS.tobytes(),
    "unclosed quote": header("{'descr': '<f4, 'shape: (9,") + ROWS.tobytes(),
    "deep nesting": header("(" * 5000 + ")" * 5000) + ROWS.tobytes(),
    "long": header(PLAIN + " " * 20_000) + ROWS.tobytes(),
    "code": header("__import__('os').system('true')") + ROWS.tobytes(),
    "unknown type": header(PLAIN.replace("<f4", "<f5")) + ROWS.tobytes(),
    "petabytes": header(PLAIN.replace("(9, 4)", "(90000000000000, 4)")) + ROWS.tobytes(),
    "beyond all integers": header(PLAIN.replace("(9, 4)", f"({10**30}, 4)")) + ROWS.tobytes(),
    "negative shape": header(PLAIN.replace("(9, 4)", "(-9, -4)")) + ROWS.tobytes(),
    "shape of texts": header(PLAIN.replace("(9, 4)", "('9', 4)")) + ROWS.tobytes(),
    "values cut off": header(PLAIN) + ROWS.tobytes()[:-8],
    "more values": header(PLAIN) + ROWS.tobytes() + b"\0",
    "two arrays": 2 * (header(PLAIN) + ROWS.tobytes()),
    "pickle": header(PLAIN.replace("<f4", "|O")) + b"cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_get_one_sentence(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.npy").write_bytes(BROKEN[kind])
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", BROKEN[kind])
    for path, what in ((tmp_path / "x.npy", ".npy array"), (tmp_path / "x.npz", ".npz file")):
        with pytest.raises(InputError, match=f"x.np[yz] cannot be read as a {what} of numbers") as caught:
            open_source(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300 + len(str(path))
    with pytest.raises(InputError):
        read_npy(tmp_path / "x.npy")
    with pytest.raises(InputError):
        read_npz(tmp_path / "x.npz", ("x",), "labels")


def test_archives_that_are_cut_off_or_changed_are_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=np.zeros((200, 50)))
    whole = (tmp_path / "whole.npz").read_bytes()
    changed = bytearray(whole)
    changed[60:140] = os.urandom(80)
    for content in (whole[: len(whole) // 2], whole[:10], bytes(changed), b"PK\x05\x06" + bytes(18)):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"x.npz (cannot be read as a .npz file of numbers|holds nothing)"):
            open_source(tmp_path / "x.npz")


def test_an_archive_larger_than_memory_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coterie.data.array_files._memory", lambda: 10_000)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((9, 10_000)))
    with pytest.raises(InputError, match=r"more than the memory; save it as \.npy"):
        open_source(tmp_path / "x.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(InputError, match="is a pipe"):
        open_source(tmp_path / "x.npy")
