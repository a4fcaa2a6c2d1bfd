from __future__ import annotations

import os
import resource
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coterie.data import labels_from_folders, labels_of, open_source
from coterie.data.store import has_room
from coterie.types import InputError, ItemSpec

# as `mixed_folder` makes them
BAD = {"bad/cut.png": "truncated", "bad/empty.jpg": "empty file (0 bytes)", "bad/text.jpg": "not an image"}


def everything(source):
    return source.items.take(torch.arange(len(source.items)))


def test_every_readable_image_is_taken_and_every_bad_one_listed(mixed_folder, snapshot):
    before = snapshot(mixed_folder)
    source = open_source(mixed_folder)
    assert len(source.items) == len(source.ids) == 30
    assert {item.id: item.reason for item in source.skipped} == BAD
    assert list(source.ids) == sorted(source.ids)
    assert source.ids[0] == "a/00.png"
    assert source.items.spec == ItemSpec("images", 3, 64, 64)
    assert source.name == "photos"
    assert "1 file was left out: 1 .txt." in source.notes
    assert any("scaled and centre-cropped to 64x64" in note for note in source.notes)
    assert snapshot(mixed_folder) == before


def test_all_formats_show_the_same_picture(mixed_folder):
    source = open_source(mixed_folder)
    images = dict(zip(source.ids, everything(source).float(), strict=True))
    for name in (
        "rgba.png",
        "palette.png",
        "photo.jpeg",
        "x.webp",
        "x.bmp",
        "x.tif",
        "x.tiff",
        "moves.gif",
        "turned.jpg",
    ):
        top, bottom = images[f"b/{name}"][:, :28].mean((1, 2)), images[f"b/{name}"][:, -28:].mean((1, 2))
        assert torch.allclose(top, torch.tensor([255.0, 0, 0]), atol=4), name
        assert torch.allclose(bottom, torch.tensor([0.0, 0, 255]), atol=4), name
    top, bottom = images["b/cmyk.jpg"][:, :28].mean((1, 2)), images["b/cmyk.jpg"][:, -28:].mean((1, 2))
    assert top.argmax() == 0
    assert bottom.argmax() == 2


def test_grey_only_folder_is_grey_and_small_images_keep_their_size(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 20, 30), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    source = open_source(tmp_path)
    assert source.items.spec == ItemSpec("images", 1, 20, 30)
    assert np.array_equal(everything(source)[:, 0].numpy(), pixels)
    assert [note for note in source.notes if "look like grey photographs" not in note] == []


@pytest.mark.parametrize(("side", "expected"), [(97, 64), (127, 64), (128, 128), (300, 128)])
def test_large_images_get_64_or_128_by_their_median_short_side(tmp_path, side, expected):
    for number in range(3):
        Image.new("RGB", (side + 40, side), (number, 0, 0)).save(tmp_path / f"{number}.png")
    assert open_source(tmp_path).items.spec == ItemSpec("images", 3, expected, expected)


def test_size_channels_and_the_form_of_a_model_are_obeyed(mixed_folder):
    assert open_source(mixed_folder, image_size=40).items.spec == ItemSpec("images", 3, 40, 40)
    assert open_source(mixed_folder, channels=1).items.spec == ItemSpec("images", 1, 64, 64)
    like = ItemSpec("images", 1, 28, 36)
    source = open_source(mixed_folder, like=like)
    assert source.items.spec == like
    assert everything(source).shape == (30, 1, 28, 36)


def test_a_fitted_model_takes_a_single_image(tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "one.png")
    assert len(open_source(tmp_path, like=ItemSpec("images", 3, 32, 32)).items) == 1
    with pytest.raises(InputError, match=r"n_samples=1 .*at least 2"):
        open_source(tmp_path)


def test_stores_agree_whether_in_memory_mapped_or_decoded_on_the_fly(mixed_folder, tmp_path):
    cache = tmp_path / "cache"
    in_memory = open_source(mixed_folder)
    mapped = open_source(mixed_folder, memory_limit=0, cache=cache)
    on_the_fly = open_source(mixed_folder, memory_limit=0)
    assert any("decoded every time" in note for note in on_the_fly.notes)
    index = torch.tensor([3, 29, 0, 3, 17])
    for other in (mapped, on_the_fly):
        assert other.fingerprint == in_memory.fingerprint
        assert list(other.ids) == list(in_memory.ids)
        assert other.skipped == in_memory.skipped
        assert torch.equal(other.items.take(index), in_memory.items.take(index))
        assert torch.equal(everything(other), everything(in_memory))


def test_the_cache_is_reused_and_never_taken_half_written(mixed_folder, tmp_path):
    cache = tmp_path / "cache"
    first = open_source(mixed_folder, memory_limit=0, cache=cache)
    (pixels,) = cache.glob("*.u8")
    before = pixels.stat().st_mtime_ns
    again = open_source(mixed_folder, memory_limit=0, cache=cache)
    assert pixels.stat().st_mtime_ns == before
    assert any("taken from the cache" in note for note in again.notes)
    assert (again.fingerprint, again.skipped, list(again.ids)) == (first.fingerprint, first.skipped, list(first.ids))
    assert torch.equal(everything(again), everything(first))

    expected, whole = everything(first), pixels.read_bytes()
    pixels.write_bytes(whole[:-1])
    assert torch.equal(everything(open_source(mixed_folder, memory_limit=0, cache=cache)), expected)
    assert pixels.read_bytes() == whole
    (facts,) = cache.glob("*.json")
    facts.write_text(facts.read_text()[:20])
    assert torch.equal(everything(open_source(mixed_folder, memory_limit=0, cache=cache)), expected)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".u8"]

    Image.new("RGB", (70, 70)).save(mixed_folder / "new.png")
    assert len(open_source(mixed_folder, memory_limit=0, cache=cache).items) == 31


def test_fingerprint_changes_with_content_and_not_with_the_way_of_reading(mixed_folder):
    first = open_source(mixed_folder).fingerprint
    assert open_source(mixed_folder, image_size=20, workers=1).fingerprint == first
    Image.new("RGB", (60, 70)).save(mixed_folder / "a" / "00.png")
    assert open_source(mixed_folder).fingerprint != first


def test_links_are_followed_once_and_loops_end(tmp_path):
    root = tmp_path / "root"
    (root / "z_real").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(root / "z_real" / f"{number}.png")
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (20, 20)).save(outside / "far.png")
    (root / "a_link").symlink_to(root / "z_real")
    (root / "z_real" / "loop").symlink_to(root)
    (root / "b_out").symlink_to(outside)
    (root / "dead.png").symlink_to(root / "nowhere.png")
    source = open_source(root)
    assert list(source.ids) == ["b_out/far.png", "z_real/0.png", "z_real/1.png", "z_real/2.png"]
    assert [(item.id, item.reason) for item in source.skipped] == [("dead.png", "no such file or directory")]


def test_names_that_are_not_utf8_can_be_written_down(tmp_path):
    for name in (b"a\xff.png", b"b.png"):
        Image.new("L", (9, 9)).save(tmp_path / "x.png")
        os.rename(tmp_path / "x.png", os.path.join(os.fsencode(tmp_path), name))
    source = open_source(tmp_path)
    assert list(source.ids) == ["a\\xff.png", "b.png"]


def test_a_read_only_folder_is_enough(mixed_folder, snapshot):
    for folder, _, files in os.walk(mixed_folder):
        for file in files:
            os.chmod(Path(folder) / file, 0o444)
        os.chmod(folder, 0o555)
    try:
        before = snapshot(mixed_folder)
        assert len(open_source(mixed_folder, memory_limit=0).items) == 30
        assert snapshot(mixed_folder) == before
    finally:
        for folder, _, _ in os.walk(mixed_folder):
            os.chmod(folder, 0o755)


def test_labels_of_folders_only_when_asked(mixed_folder):
    source = open_source(mixed_folder)
    assert labels_of(mixed_folder, source.ids) is None
    labels = labels_from_folders(source.ids)
    assert labels.names == ["a", "b", "deep"]
    parents = [Path(name).parent.name for name in source.ids]
    assert [labels.names[code] for code in labels.codes] == parents
    mixed = labels_from_folders(["x.png", "007/y.png"])
    assert (mixed.codes.tolist(), mixed.names) == ([-1, 0], ["007"])
    with pytest.raises(InputError, match="no sub-folders"):
        labels_from_folders(["1.png", "2.png"])


def test_huge_photos_are_read_without_a_word(tmp_path):
    """20 megapixels as JPEG and 95 megapixels, above Pillow's own warning limit, as PNG."""
    Image.new("RGB", (5000, 4000), (200, 10, 10)).save(tmp_path / "camera.jpg")
    Image.new("L", (9500, 10000), 128).save(tmp_path / "scan.png", compress_level=1)
    before = list(warnings.filters)
    source = open_source(tmp_path)
    assert source.skipped == []
    assert len(source.items) == 2
    assert list(warnings.filters) == before


def test_a_file_that_vanishes_later_is_named(mixed_folder):
    source = open_source(mixed_folder, memory_limit=0)
    (mixed_folder / "a" / "03.png").unlink()
    with pytest.raises(InputError, match=r"a/03\.png could be read when the run began"):
        everything(source)


def test_wrong_folders_get_one_sentence(mixed_folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"holds no images .*0 other files"):
        open_source(empty)
    (empty / "run.yaml").touch()
    with pytest.raises(InputError, match="is a run folder, which holds no items"):
        open_source(empty)
    with pytest.raises(InputError, match=r"At least 2 of the 3 images in the folder .*empty\.jpg: empty file"):
        open_source(mixed_folder / "bad")
    for name in ("a", "b"):
        shutil.rmtree(mixed_folder / name)
    with pytest.raises(InputError, match=r"n_samples=1 of the 3 images .*bad/empty\.jpg: empty"):
        open_source(mixed_folder, max_skipped=1)


def test_the_share_of_bad_images_is_limited(mixed_folder):
    with pytest.raises(InputError, match=r"At least 2 of the 33 images .*bad/empty\.jpg: empty.*5% that may"):
        open_source(mixed_folder, max_skipped=0.05)
    with pytest.raises(InputError, match=r"^3 of the 33 images .*bad/cut\.png: truncated.*7% that may be skipped"):
        open_source(mixed_folder, max_skipped=0.07)


def test_folder_without_rights_is_named(mixed_folder):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    os.chmod(mixed_folder / "a", 0)
    try:
        source = open_source(mixed_folder, max_skipped=1)
        assert ("a/", "permission denied") in [(item.id, item.reason) for item in source.skipped]
        os.chmod(mixed_folder, 0)
        with pytest.raises(InputError, match=r"cannot be read .permission denied"):
            open_source(mixed_folder)
    finally:
        os.chmod(mixed_folder, 0o755)
        os.chmod(mixed_folder / "a", 0o755)


def test_a_cache_that_cannot_be_made_is_named(mixed_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cache folder .*file/cache cannot be used"):
        open_source(mixed_folder, memory_limit=0, cache=tmp_path / "file" / "cache")


def test_a_disk_that_runs_full_is_named_and_nothing_half_written_stays(mixed_folder, tmp_path):
    cache = tmp_path / "cache"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the pixels take 30 * 3 * 64 * 64 bytes
    try:
        with pytest.raises(InputError, match=r"The cache .* cannot be written .*allow larger files"):
            open_source(mixed_folder, memory_limit=0, cache=cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache.iterdir()) == []
    assert not has_room(cache, 1 << 60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 2}, "--image-size is 2"),
        ({"channels": 2}, "channels is 2"),
        ({"max_skipped": 1.5}, "max_skipped is 1.5"),
        ({"workers": 0}, "workers is 0"),
        ({"like": ItemSpec("embeddings", dim=4)}, "holds images, but the model was fitted on embeddings"),
    ],
)
def test_wrong_settings_are_named(mixed_folder, settings, message):
    with pytest.raises(InputError, match=message):
        open_source(mixed_folder, **settings)


def test_numbers_beside_pictures_are_named_by_their_ending(mixed_folder):
    (mixed_folder / "net.safetensors").write_bytes(b"x")
    assert (
        "2 files were left out: 1 .safetensors (save their numbers as .npy), 1 .txt." in open_source(mixed_folder).notes
    )
