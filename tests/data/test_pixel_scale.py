"""One scale of brightness for a source: fixed by all of it when a model is fitted, used for all that comes later."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import TensorDataset

from coterie.data import open_source
from coterie.types import InputError, ItemSpec

SCENES = np.random.default_rng(0).integers(0, 256, (6, 12, 12), dtype=np.uint8)
SCENES[:, :3] = 255  # more than a few pixels at the top, as in any picture that fills its range


def pixels(source) -> np.ndarray:
    return source.items.take(torch.arange(len(source.items))).numpy()


def saved(folder: Path, arrays, suffix: str = ".tif") -> Path:
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays):
        Image.fromarray(np.ascontiguousarray(array)).save(folder / f"{number}{suffix}")
    return folder


CONTAINERS = {
    "uint8": lambda x: x,
    "int64": lambda x: x.astype(np.int64),
    "int16": lambda x: x.astype(np.int16),
    "16 bits": lambda x: x.astype(np.uint16) * 257,
    "16 bits, big-endian": lambda x: (x.astype(np.uint16) * 257).astype(">u2"),
    "8 bits in uint16": lambda x: x.astype(np.uint16),
    "unit": lambda x: (x / 255).astype(np.float32),
    "unit, float64": lambda x: x / 255,
    "unit, float64, big-endian": lambda x: (x / 255).astype(">f8"),
    "float 0 to 255": lambda x: x.astype(np.float32),
    "-1 to 1": lambda x: (x / 127.5 - 1).astype(np.float32),
    "stretched": lambda x: x.astype(np.float64) * 7 - 300.5,
    "32 bits": lambda x: x.astype(np.int32) * 1000,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_scene_is_the_same_in_every_container(container):
    scenes = SCENES.copy()
    scenes[0, -1, 0] = 0  # so that the scene's own range is 0 to 255
    assert np.array_equal(pixels(open_source(CONTAINERS[container](scenes)))[:, 0], scenes)


@pytest.mark.parametrize("container", ["16 bits", "unit", "float 0 to 255", "-1 to 1", "stretched", "32 bits"])
def test_files_arrays_and_datasets_of_wide_values_agree(container, tmp_path):
    scenes = SCENES.copy()
    scenes[0, -1, 0] = 0
    wide = CONTAINERS[container](scenes)
    wide = wide.astype(np.float32) if wide.dtype.kind == "f" else wide
    source = open_source(saved(tmp_path / "t", wide))
    assert np.array_equal(pixels(source)[:, 0], scenes)
    assert any("0 to 255" in note for note in source.notes) or source.items.spec.high == 1
    assert (source.items.spec.low, source.items.spec.high) == (
        open_source(wide).items.spec.low,
        open_source(wide).items.spec.high,
    )
    listed = [Image.fromarray(image) for image in wide]
    assert np.array_equal(pixels(open_source(Pillows(listed)))[:, 0], scenes)
    if wide.dtype != np.uint16:  # torch has few operations on it
        assert np.array_equal(pixels(open_source(TensorDataset(torch.from_numpy(wide)))), pixels(source))


class Pillows(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_values_of_a_camera_in_16_bits_are_not_black(bits, tmp_path):
    raw = np.random.default_rng(1).integers(0, 2**bits, (5, 20, 20), dtype=np.uint16)
    expected = np.rint(raw / (2**bits - 1) * 255)
    for given_as in (
        raw,
        raw.astype(">u2"),
        raw.astype(np.int64),
        raw.astype(np.float64),
        saved(tmp_path, raw, ".png"),
    ):
        source = open_source(given_as)
        assert np.array_equal(pixels(source)[:, 0], expected)
        assert any(f"({bits} bits)" in note for note in source.notes)


def test_both_byte_orders_of_a_tiff_are_one_picture(tmp_path):
    raw = np.random.default_rng(1).integers(0, 4096, (2, 20, 20), dtype=np.uint16)
    little = saved(tmp_path / "little", raw)
    (tmp_path / "big").mkdir()
    for number, image in enumerate(raw):
        (tmp_path / "big" / f"{number}.tif").write_bytes(big_endian_tiff(image))
    with Image.open(tmp_path / "big" / "0.tif") as image:
        assert image.mode == "I;16B"
    assert np.array_equal(pixels(open_source(tmp_path / "big")), pixels(open_source(little)))


def big_endian_tiff(image: np.ndarray) -> bytes:
    """An uncompressed grey TIFF of 16 bits whose numbers have the high byte first."""
    height, width = image.shape
    fields = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    fields.append((279, image.size * 2))
    body = image.astype(">u2").tobytes()
    entries = b"".join(
        np.array([tag, 4], ">u2").tobytes() + np.array([1, value], ">u4").tobytes() for tag, value in fields
    )
    start = np.array([8 + len(body)], ">u4").tobytes()
    return b"MM\x00\x2a" + start + body + np.array([len(fields)], ">u2").tobytes() + entries + bytes(4)


@settings(deadline=None, max_examples=30)
@given(
    order=st.permutations(range(6)),
    scale=st.sampled_from([0.004, 1.0, 37.0, 4095 / 255, 1e5]),
    offset=st.sampled_from([0.0, -3.0, 1000.0]),
)
def test_order_and_company_do_not_change_what_is_brighter(order, scale, offset):
    array = SCENES[list(order)].astype(np.float64) * scale + offset
    first, again = open_source(SCENES.astype(np.float64) * scale + offset), open_source(array)
    assert first.items.spec == again.items.spec
    assert np.array_equal(pixels(first)[list(order)], pixels(again))
    more = pixels(open_source(np.concatenate([array, array[:1] * 3 - 1])))[:6].mean((1, 2, 3))
    alone = pixels(again).mean((1, 2, 3))
    assert (np.diff(alone)[np.abs(np.diff(alone)) > 3] * np.diff(more)[np.abs(np.diff(alone)) > 3] >= 0).all()


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint16"])
@pytest.mark.parametrize("as_files", [True, False])
def test_one_hot_pixel_does_not_black_out_the_rest(dtype, as_files, tmp_path):
    raw = np.random.default_rng(2).integers(0, 1000, (8, 20, 20)).astype(dtype)
    spoiled = raw.copy()
    spoiled[5, 3, 3] = 65535 if dtype == "uint16" else 1_000_000
    source = open_source(saved(tmp_path / "t", spoiled) if as_files else spoiled)
    assert pixels(source).std() > 60
    (note,) = [note for note in source.notes if "cut off" in note]
    assert ("5.tif" if as_files else "image 5") in note


def test_pictures_of_another_unit_are_told(tmp_path):
    raw = np.random.default_rng(3).random((6, 16, 16)).astype(np.float32)
    raw[4:] *= 60_000
    note = next(note for note in open_source(saved(tmp_path, raw)).notes if "in one unit" in note)
    assert note.startswith("4 of 6 pictures get fewer than 4 of the 256 greys")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_float_picture_with_nan_is_listed_by_name(bad, tmp_path):
    raw = np.random.default_rng(4).random((8, 16, 16)).astype(np.float32)
    raw[2, 5, 5] = bad
    source = open_source(saved(tmp_path, raw))
    assert [(item.id, item.reason) for item in source.skipped] == [("2.tif", "it contains NaN or infinite values")]
    assert np.array_equal(pixels(source)[:, 0], np.rint(np.delete(raw, 2, 0) * 255.0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_full_16_bits_and_unit_floats_may_stand_beside_bytes(suffix, tmp_path):
    saved(tmp_path / "t", [SCENES[0], SCENES[1].astype(np.uint16) * 257], suffix)
    Image.fromarray((SCENES[2] / 255).astype(np.float32)).save(tmp_path / "t" / "2.tif")
    if suffix == ".tif":
        (tmp_path / "t" / "1.tif").unlink()
        Image.fromarray(SCENES[1]).save(tmp_path / "t" / "1.tif")
    else:
        (tmp_path / "t" / "2.tif").unlink()
        Image.fromarray(SCENES[2]).save(tmp_path / "t" / "2.png")
    source = open_source(tmp_path / "t")
    assert np.array_equal(pixels(source)[:, 0], SCENES[:3])
    assert any("beside pictures of 8 bits" in note for note in source.notes)
    assert source.items.spec == ItemSpec("images", 1, 12, 12)


@pytest.mark.parametrize("wide", [SCENES[1].astype(np.uint16) * 16, SCENES[1].astype(np.float32) * 9 - 4])
def test_what_cannot_be_compared_with_bytes_is_refused(wide, tmp_path):
    saved(tmp_path, [SCENES[0], wide, SCENES[2]])
    with pytest.raises(InputError, match=r"mixes pictures of 8 bits with others whose pixel values run from .* \(1\."):
        open_source(tmp_path)


def test_two_kinds_beside_bytes_are_each_named(tmp_path):
    """Each alone is taken: without a name nobody finds the one scan of floats among those of 16 bits."""
    saved(tmp_path, [SCENES[0], SCENES[1].astype(np.uint16) * 257, (SCENES[2] / 255).astype(np.float32)], ".tif")
    most = int(SCENES[1].max()) * 257
    with pytest.raises(InputError, match=rf"run from 0 to {most} \(2.tif ends at \S+, 1.tif ends at {most}\), so that"):
        open_source(tmp_path)


FITTED = {
    "uint8": SCENES,
    "unit": SCENES / 255,
    "16 bits": SCENES.astype(np.uint16) * 257,
    "12 bits": SCENES.astype(np.int32) * 16,
    "stretched": SCENES * 7.0 - 300.5,
    "32 bits": SCENES.astype(np.int32) * 1000,
}


@pytest.mark.parametrize("fitted", FITTED)
@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", ">u2", "int16", "int32", "int64", "float16", "float32", "float64"]
)
def test_the_same_numbers_in_another_dtype_are_the_same_pixels_or_refused(fitted, dtype):
    array = FITTED[fitted]
    whole = open_source(array)
    for part in (array[:2], array[2:3] // 8, array[3:4] * 0 + array.min()):
        with np.errstate(over="ignore"):
            recast = part.astype(dtype)
        if not np.array_equal(recast.astype(np.float64), part.astype(np.float64)):
            continue  # the dtype cannot hold these numbers
        expected = pixels(open_source(part, like=whole.items.spec))
        try:
            found = open_source(recast, like=whole.items.spec)
        except InputError:
            assert dtype != array.dtype
            continue
        assert np.array_equal(pixels(found), expected)
        assert found.items.spec == whole.items.spec


@pytest.mark.parametrize(
    ("fitted", "later"),
    [
        ("uint8", CONTAINERS["unit"]),
        ("uint8", CONTAINERS["16 bits"]),
        ("uint8", CONTAINERS["16 bits, big-endian"]),
        ("uint8", lambda x: x > 127),
        ("unit", lambda x: x),
        ("unit", CONTAINERS["16 bits"]),
        ("unit", CONTAINERS["int64"]),
        ("unit", lambda x: x > 127),
        ("16 bits", CONTAINERS["unit"]),
        ("16 bits", lambda x: x),
        ("16 bits", lambda x: x > 127),
    ],
)
def test_common_forms_of_a_picture_are_understood(fitted, later, tmp_path):
    like = open_source(FITTED[fitted]).items.spec
    given_as = later(SCENES)
    expected = np.where(given_as, 255, 0) if given_as.dtype == np.bool_ else SCENES
    assert np.array_equal(pixels(open_source(given_as, like=like))[:, 0], expected)
    if given_as.dtype not in (np.bool_, np.int64):
        folder = saved(tmp_path, given_as.astype(given_as.dtype.newbyteorder("=")))
        assert np.array_equal(pixels(open_source(folder, like=like))[:, 0], expected)
        for number in range(6):  # a picture alone is what it is in company
            if number != 2:
                (folder / f"{number}.tif").unlink()
        assert np.array_equal(pixels(open_source(folder, like=like))[:, 0], expected[2:3])


@pytest.mark.parametrize(
    ("fitted", "later"),
    [
        ("uint8", SCENES.astype(np.uint16) * 16),
        ("uint8", SCENES.astype(np.int32) - 128),
        ("uint8", SCENES / 127.5 - 1),
        ("uint8", (SCENES - SCENES.mean()) / SCENES.std()),
        ("uint8", (SCENES > 99).astype(np.float32)),
        ("uint8", SCENES * 300.5),
        ("unit", SCENES / 1.5),
        ("unit", SCENES / 127.5 - 1),
        ("12 bits", SCENES),
        ("12 bits", SCENES / 255),
        ("12 bits", SCENES > 99),
        ("32 bits", SCENES / 255),
        ("stretched", SCENES),
        ("stretched", SCENES * 5000.5),
    ],
)
def test_what_is_not_plain_is_refused_with_both_ranges(fitted, later):
    like = open_source(FITTED[fitted]).items.spec
    with pytest.raises(InputError, match=r"has pixel values from .* but the model was fitted on values from"):
        open_source(later, like=like)


def test_pictures_of_8_bits_are_listed_for_a_model_of_other_values(tmp_path):
    like = open_source(FITTED["12 bits"]).items.spec
    assert np.array_equal(
        pixels(open_source(saved(tmp_path / "w", FITTED["12 bits"]), like=like)), pixels(open_source(FITTED["12 bits"]))
    )
    with pytest.raises(InputError, match=r"0\.tif: it has 8 bits, but the model was fitted on .* 0 to 4095"):
        open_source(saved(tmp_path / "n", SCENES), like=like)


def test_models_of_before_know_bytes():
    like = ItemSpec("images", 1, 12, 12)  # low == high == 0
    assert np.array_equal(pixels(open_source(SCENES, like=like))[:, 0], SCENES)
    assert np.array_equal(pixels(open_source(SCENES.astype(np.int64), like=like))[:, 0], SCENES)


def test_the_cache_keeps_the_scale(tmp_path):
    folder = saved(tmp_path / "t", FITTED["12 bits"])
    first = open_source(folder, memory_limit=0, cache=tmp_path / "c")
    again = open_source(folder, memory_limit=0, cache=tmp_path / "c")
    on_the_fly = open_source(folder, memory_limit=0)
    assert first.items.spec == again.items.spec == on_the_fly.items.spec
    assert np.array_equal(pixels(first), pixels(again))
    assert np.array_equal(pixels(first), pixels(on_the_fly))
    assert any("12 bits" in note for note in again.notes)


@pytest.mark.parametrize(("bits", "dark"), [(16, False), (12, True)])
def test_colour_of_16_bits_is_told(bits, dark, tmp_path):
    raw = np.random.default_rng(5).integers(0, 2**bits, (3, 9, 9, 3)).astype(">u2")
    for number, image in enumerate(raw):
        (tmp_path / f"{number}.png").write_bytes(colour_png(image))
    source = open_source(tmp_path)
    assert np.array_equal(pixels(source), (raw >> 8).astype(np.uint8).transpose(0, 3, 1, 2))
    note = next(note for note in source.notes if "of 16 bits" in note)
    assert note.startswith("3 colour pictures of 16 bits were read")
    assert ("which is dark" in note) == dark
    for number in range(2):
        Image.fromarray((raw[number] >> 8).astype(np.uint8)).save(tmp_path / f"{number}.png")
    assert any(note.startswith("1 colour picture of 16 bits was read") for note in open_source(tmp_path).notes)


def colour_png(image: np.ndarray) -> bytes:
    """Pillow cannot write colour of 16 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    height, width, _ = image.shape
    lines = b"".join(b"\0" + line.tobytes() for line in image)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16, np.float32, np.bool_])
def test_zeros_and_ones_are_black_and_white_in_every_type(dtype):
    masks = SCENES > 99
    source = open_source(masks.astype(dtype))
    assert np.array_equal(pixels(source)[:, 0], masks * 255)
    told = "Pixel values of 0 and 1 were taken as black and white." in source.notes
    assert told == (dtype in (np.uint8, np.int64, np.uint16))
    for later in (np.uint8, np.int64, np.float64, np.bool_):
        assert np.array_equal(pixels(open_source(masks.astype(later), like=source.items.spec))[:, 0], masks * 255)


def test_rounding_beyond_the_range_is_no_note():
    scenes = np.tile(SCENES / 255, (4, 1, 1))
    scenes[0, 5, 5] = 1 + 1e-7
    assert not any("cut off" in note for note in open_source(scenes).notes)
    scenes[0, 5, 5] = 1e4
    assert any("cut off" in note for note in open_source(scenes).notes)


def test_a_black_picture_is_no_picture_of_a_model_that_knows_no_0():
    """Temperatures from 1000 to 3000: all zeros are another unit, or nothing at all."""
    like = ItemSpec("images", channels=1, height=8, width=8, low=1000.0, high=3000.0)
    with pytest.raises(InputError, match="fitted on values from 1000 to 3000"):
        open_source(np.zeros((3, 8, 8), np.float32), like=like)
    black = open_source(np.zeros((3, 8, 8), np.float32), like=ItemSpec("images", channels=1, height=8, width=8))
    assert not black.items.take(torch.arange(3)).any()
