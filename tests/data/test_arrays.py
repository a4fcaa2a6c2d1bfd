from __future__ import annotations

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from coterie.data import labels_of, open_source
from coterie.types import InputError, ItemSpec

SHAPES = {
    "hw": lambda n, h, w, c: (n, h, w),
    "last": lambda n, h, w, c: (n, h, w, c),
    "first": lambda n, h, w, c: (n, c, h, w),
}


def naive(array: np.ndarray, layout: str) -> np.ndarray:
    """The array as (n, c, h, w) with values 0 to 255, image by image."""
    result = []
    for image in array:
        if image.dtype == np.bool_:
            image = image * 255
        elif image.dtype == np.uint16:
            image = np.rint(image / 257)
        elif image.dtype.kind == "f":
            image = np.rint(image * 255.0)
        image = {"hw": lambda x: x[None], "last": lambda x: x.transpose(2, 0, 1), "first": lambda x: x}[layout](image)
        result.append(image.astype(np.uint8))
    return np.stack(result)


@settings(deadline=None, max_examples=25)
@given(data=st.data(), layout=st.sampled_from(sorted(SHAPES)), limit=st.sampled_from([0, 1 << 30]))
def test_take_equals_the_naive_result_for_every_store(data, layout, limit, tmp_path_factory):
    n, h, w = data.draw(st.integers(2, 9)), data.draw(st.integers(5, 9)), data.draw(st.integers(5, 9))
    dtype = data.draw(st.sampled_from(["uint8", "bool", "uint16", "float32", "float64"]))
    shape = SHAPES[layout](n, h, w, data.draw(st.sampled_from([1, 3])))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    array = (rng.random(shape) if dtype.startswith("float") else rng.integers(0, 65536, shape)).astype(dtype)
    if dtype.startswith("float"):
        # Half-way between two grey levels, one rounding of the product decides, and both answers are right.
        array[np.abs(array * 255 % 1 - 0.5) < 1e-4] = 0
    if dtype == "bool":
        array = rng.random(shape) < 0.5
    if dtype == "uint16":
        array[0] = 65535  # so that these are the full 16 bits, and not those of a camera
    elif dtype.startswith("float"):
        array[0] = 1
    elif dtype == "uint8":
        array[0] = 255  # so that these are grey levels, and not a mask of zeros and ones
    index = data.draw(st.lists(st.integers(0, n - 1), max_size=12))
    expected = naive(array, layout)[index]
    path = tmp_path_factory.mktemp("arrays") / "x.npy"
    np.save(path, array)
    np.savez(path.with_suffix(".npz"), images=array)
    for given_as in (array, torch.from_numpy(array), np.asfortranarray(array), path, path.with_suffix(".npz")):
        source = open_source(given_as, memory_limit=limit)
        taken = source.items.take(torch.tensor(index, dtype=torch.int64))
        assert taken.dtype == torch.uint8
        assert np.array_equal(taken.numpy(), expected)
        assert source.fingerprint == open_source(array).fingerprint
        assert list(source.ids) == [str(row) for row in range(n)]


@settings(deadline=None, max_examples=20)
@given(data=st.data(), limit=st.sampled_from([0, 1 << 30]))
def test_embeddings_taken_equal_the_array(data, limit, tmp_path_factory):
    n, d = data.draw(st.integers(2, 9)), data.draw(st.integers(1, 6))
    dtype = data.draw(st.sampled_from(["float32", "float64", "float16", "int32", "int64", "uint8"]))
    bounds = {"elements": st.integers(0, 100)} if dtype in ("int32", "int64", "uint8") else {"elements": st.just(0.5)}
    array = data.draw(npst.arrays(dtype, (n, d), **bounds))
    array[0, 0] += 1  # not all rows the same
    index = data.draw(st.lists(st.integers(0, n - 1), max_size=12))
    path = tmp_path_factory.mktemp("vectors") / "x.npy"
    np.save(path, array)
    for given_as in (array, torch.from_numpy(array), array.tolist(), array.astype(object), path):
        source = open_source(given_as, memory_limit=limit)
        taken = source.items.take(torch.tensor(index, dtype=torch.int64))
        assert taken.dtype == torch.float32
        assert np.array_equal(taken.numpy(), array.astype(np.float32)[index])
        assert source.items.spec == ItemSpec("embeddings", dim=d)
        assert source.family == "vector"


def test_the_channel_axis_of_ambiguous_arrays_depends_on_the_library():
    array = np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)
    assert open_source(array).items.spec == ItemSpec("images", 3, 3, 5)
    assert open_source(torch.from_numpy(array)).items.spec == ItemSpec("images", 3, 5, 3)


def test_other_float_ranges_are_stretched_over_the_whole_array():
    array = np.linspace(-2, 6, 2 * 8 * 8).reshape(2, 8, 8)
    source = open_source(array)
    expected = np.rint((array + 2) / 8 * 255).astype(np.uint8)
    assert np.array_equal(source.items.take(torch.arange(2))[:, 0].numpy(), expected)
    assert any("from -2 to 6 were stretched" in note for note in source.notes)
    assert any("was taken as 2 grey pictures; embeddings are (n, d)" in note for note in source.notes)


def test_wide_integers_within_a_byte_stay_and_uint16_is_noted():
    array = np.arange(2 * 16 * 16).reshape(2, 16, 16) % 256
    assert np.array_equal(open_source(array).items.take(torch.arange(2))[:, 0].numpy(), array)
    assert "from 0 to 65535 (16 bits)" in open_source((array * 256).astype(np.uint16)).notes[0]


def test_rgba_arrays_are_composed_on_white_and_forms_are_obeyed():
    array = np.zeros((3, 10, 10, 4), np.uint8)
    assert (open_source(array).items.take(torch.arange(3)) == 255).all()
    rgb = np.random.default_rng(0).integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)
    grey = open_source(rgb, like=ItemSpec("images", 1, 10, 12)).items.take(torch.arange(4)).numpy()[:, 0]
    assert np.abs(grey - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 1
    again = open_source(rgb[..., 0], channels=3).items.take(torch.arange(4)).numpy()
    assert (again == rgb[:, None, :, :, 0]).all()
    assert open_source(np.zeros((2, 200, 150, 3), np.uint8)).items.spec == ItemSpec("images", 3, 128, 128)
    assert open_source(rgb, image_size=20).items.take(torch.arange(2)).shape == (2, 3, 20, 20)


def test_medmnist_layout_and_single_arrays_are_found_in_npz(tmp_path):
    rng = np.random.default_rng(0)
    parts = {
        part: rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        for part, size in zip(["train", "val", "test"], [4, 2, 3], strict=True)
    }
    codes = {part: rng.integers(0, 3, (len(images), 1)) for part, images in parts.items()}
    path = tmp_path / "some.npz"
    np.savez(path, **{f"{p}_images": x for p, x in parts.items()}, **{f"{p}_labels": y for p, y in codes.items()})
    source = open_source(path)
    assert np.array_equal(source.items.take(torch.arange(9))[:, 0].numpy(), np.concatenate(list(parts.values())))
    labels = labels_of(path, source.ids)
    spoken = [int(labels.names[code]) for code in labels.codes]
    assert spoken == np.concatenate(list(codes.values()))[:, 0].tolist()
    np.savez(path, only=parts["train"])
    assert len(open_source(path).items) == 4
    assert labels_of(path, source.ids) is None


def test_a_mapped_array_is_not_loaded(tmp_path):
    """180 MB are opened, hashed and read through, and the pages of the file do not stay with the process."""
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (60_000, 32, 32, 3)).flush()
    process = psutil.Process()
    for given_as in (path, np.load(path, mmap_mode="r"), np.load(path, mmap_mode="r")[1000:]):
        before = process.memory_info().rss
        source = open_source(given_as)
        for index in torch.randperm(len(source.items)).split(5_000):
            source.items.take(index)
        assert process.memory_info().rss - before < 80e6


def test_a_large_map_of_embeddings_is_converted_when_rows_are_taken(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float16)
    np.save(tmp_path / "x.npy", rows)
    index, found = torch.randperm(50), []
    for most in (1 << 20, 0):
        monkeypatch.setattr("coterie.data.vectors.MAPPED", most)
        source = open_source(tmp_path / "x.npy")
        assert isinstance(source.items.array, np.memmap) is (most == 0)
        found.append((source.fingerprint, source.items.spec, source.items.take(index).tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("cut", [slice(None), slice(3, 9), slice(None, None, 2), slice(None, None, -1)])
def test_maps_of_any_kind_are_read_as_they_stand(tmp_path, mode, cut):
    array = np.random.default_rng(0).integers(0, 256, (12, 5, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    expected = array.copy()
    if mode != "r":
        mapped[4] = expected[4] = 7
    mapped, expected = mapped[cut], expected[cut].transpose(0, 3, 1, 2)
    index = torch.randint(0, len(expected), (20,))
    source = open_source(mapped)
    assert np.array_equal(source.items.take(index).numpy(), expected[index.numpy()])
    (tmp_path / "x.npy").unlink()
    assert np.array_equal(source.items.take(index).numpy(), expected[index.numpy()])


def test_a_file_that_shrinks_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 5, 6, 3), np.uint8))
    source = open_source(tmp_path / "x.npy")
    with open(tmp_path / "x.npy", "rb+") as file:
        file.truncate(200)
    with pytest.raises(InputError, match="has become shorter"):
        source.items.take(torch.arange(9))


def test_fingerprints_of_huge_maps_see_shape_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("coterie.data.fingerprint.HUGE", 1000)
    monkeypatch.setattr("coterie.data.fingerprint.SAMPLE", 50)
    array = np.random.default_rng(0).integers(0, 256, (300, 4, 4), dtype=np.uint8)
    found = []
    for change in (None, 0, 299):
        if change is not None:
            array[change] ^= 1
        np.save(tmp_path / "x.npy", array)
        found.append(open_source(tmp_path / "x.npy").fingerprint)
    assert len(set(found)) == 3


def test_rows_of_ids_behave_like_a_list():
    ids = open_source(np.eye(5)).ids
    assert (len(ids), ids[3], ids[-1], list(ids[1:3]), "4" in ids, "5" in ids) == (5, "3", "4", ["1", "2"], True, False)


IMAGES = np.zeros((3, 8, 8, 3), np.float32)


def spoiled(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    array = array.astype(np.float64)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(5.0), r"Reshape your data to \(n, d\): array has the shape \(5,\)"),
        (np.float64(3), "is no source"),
        (np.empty((0, 3)), r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
        (np.empty((12, 0)), r"0 feature\(s\) \(shape=\(12, 0\)\) while a minimum of 1 is required"),
        (np.ones((1, 4)), "n_samples=1"),
        (np.ones((6, 4)), "All features of array are constant"),
        (spoiled(np.eye(6), (4, 2), np.nan), "NaN: row 4, column 2"),
        (spoiled(np.eye(6), (5, 1), np.inf), "infinity .*row 5, column 1"),
        (spoiled(np.eye(6), (5, 1), 1e300), "too large for float32: row 5"),
        (np.array([["a", "b"], ["c", "d"]]), "embeddings and pixels must be numbers"),
        (np.array([["a", "b"], ["c", 1.0]], dtype=object), "Row 0, column 0 .* no real number but text, 'a'"),
        (np.eye(4) + 1j, "Complex data not supported"),
        ([[1, 2], [3]], "cannot be turned into an array"),
        (np.zeros((2, 5, 5, 7)), r"shape \(2, 5, 5, 7\) is neither images"),
        (np.zeros((2, 2, 2, 2, 3)), "is neither images"),
        (np.zeros((2, 5, 5), dtype="U3"), "pixels must be numbers"),
        (spoiled(IMAGES, (1, 0, 0, 0), np.nan), "Image 1 of array contains NaN"),
        (np.full((3, 8, 8), 7.5), "Every pixel of array has the value 7.5"),
        (np.zeros((1, 8, 8), np.uint8), "n_samples=1"),
        (np.zeros((0, 8, 8), np.uint8), "n_samples=0"),
    ],
)
def test_wrong_arrays_get_one_sentence(array, message):
    with pytest.raises(InputError, match=message):
        open_source(array)


def test_what_is_no_number_is_also_a_type_error():
    with pytest.raises(TypeError, match=r"argument must be .* string.* number"):
        open_source(np.array([[{"a": 1}, 1.0], [2.0, 1.0]], dtype=object))


def test_sparse_input_is_refused():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    for sparse in (scipy_sparse.csr_array(np.eye(3)), torch.eye(3).to_sparse()):
        with pytest.raises(InputError, match="Sparse input is not supported"):
            open_source(sparse)


def test_a_fitted_model_wants_its_own_width_and_takes_constant_and_single_rows():
    like = ItemSpec("embeddings", dim=4)
    assert len(open_source(np.ones((1, 4)), like=like).items) == 1
    with pytest.raises(InputError, match=r"X has 1 features, but \w+ is expecting 4 features as input"):
        open_source(np.ones((5, 1)), like=like)
    with pytest.raises(InputError, match="holds images, but the model was fitted on embeddings"):
        open_source(np.zeros((5, 8, 8)), like=like)
    with pytest.raises(InputError, match="holds embeddings, but the model was fitted on images"):
        open_source(np.eye(5), like=ItemSpec("images", 1, 8, 8))


def test_tables_of_pandas_and_bfloat16_tensors_are_arrays():
    pandas = pytest.importorskip("pandas")
    array = np.arange(12.0).reshape(4, 3)
    for given_as in (pandas.DataFrame(array), torch.from_numpy(array).bfloat16().requires_grad_()):
        assert np.array_equal(open_source(given_as).items.take(torch.arange(4)).numpy(), array)


def test_wrong_files_get_one_sentence(tmp_path):
    (tmp_path / "bad.npy").write_text("no array")
    (tmp_path / "bad.npz").write_text("no array")
    np.savez(tmp_path / "keys.npz", a=np.eye(2), b=np.eye(2))
    np.save(tmp_path / "pickled.npy", np.array([{}, {}]))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}, {}]))
    (tmp_path / "x.csv").write_text("1,2")
    (tmp_path / "photo.jpg").write_text("")
    for name, message in {
        "bad.npy": "cannot be read as a .npy array",
        "bad.npz": "cannot be read as a .npz file",
        "pickled.npy": "cannot be read as a .npy array",
        "pickled.npz": "cannot be read as a .npz file",
        "keys.npz": r"holds a \(2, 2\), b \(2, 2\), and none of them is called images",
        "x.csv": "is no source",
        "photo.jpg": "is a single picture, which cannot be grouped: give the folder",
    }.items():
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / name)
    with pytest.raises(InputError, match=r"no named data set; did you mean fashion-mnist\?"):
        open_source("fashon-mnist")
    with pytest.raises(InputError, match="no file, no folder and no named data set"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be looked up"):
        open_source("a" * 5000)


@pytest.mark.parametrize("kind", ["floats", "unit", "integers", "dataset"])
def test_new_pixels_are_mapped_as_the_training_data_were(kind):
    """Whatever part of an array a fitted model sees again, its pixels are the same."""
    rng = np.random.default_rng(0)
    array = rng.normal(3, 2, (30, 6, 6)).astype(np.float32)
    if kind == "unit":
        array = rng.random((30, 6, 6))
    elif kind == "integers":
        array = rng.integers(-50, 1000, (30, 6, 6))

    def wrapped(part):
        return torch.utils.data.TensorDataset(torch.from_numpy(part)[:, None]) if kind == "dataset" else part

    whole = open_source(wrapped(array))
    spec = whole.items.spec
    assert (spec.low, spec.high) == ((0, 1) if kind == "unit" else (array.min(), array.max()))
    some = rng.choice(30, 3, replace=False)
    part = open_source(wrapped(array[some]), like=spec)
    assert torch.equal(part.items.take(torch.arange(3)), whole.items.take(torch.from_numpy(some)))
    assert part.items.spec == spec
    one_value = open_source(wrapped(array[:1] * 0 + array.dtype.type(spec.high)), like=spec)
    assert (one_value.items.take(torch.tensor([0])) == 255).all()


def test_pixels_in_another_unit_than_the_training_data_are_refused():
    unit = open_source(np.random.default_rng(0).random((9, 4, 4))).items.spec
    assert open_source(np.full((1, 4, 4), 1.2), like=unit).items.take(torch.tensor([0])).max() == 255
    with pytest.raises(InputError, match="from 0 to 255, but the model was fitted on values from 0 to 1"):
        open_source(np.linspace(0, 255, 32).reshape(2, 4, 4), like=unit)
    assert open_source(np.full((1, 4, 4), 7, np.uint8), like=unit).items.take(torch.tensor([0])).max() == 7
