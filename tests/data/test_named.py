"""Each loader on a small set of files in the true format."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from coterie.data import GROUPS, labels_of, names, open_source
from coterie.data.named import open_named
from coterie.data.named_files import IMAGENET10, IMAGENET_DOGS
from coterie.data.picture_form import Options
from coterie.types import InputError, ItemSpec
from coterie.views import RECIPES, Draw, ViewSettings, make_views

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COTERIE_DOWNLOAD", raising=False)
    return tmp_path


def bytes_of(count: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


def taken(source) -> np.ndarray:
    return source.items.take(torch.arange(len(source.items))).numpy()


def write_idx(path: Path, array: np.ndarray, packed: bool) -> None:
    content = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    source = open_source("digits")
    expected = load_digits()
    assert (source.name, source.family) == ("digits", "glyph")
    assert source.items.spec == ItemSpec("images", 1, 8, 8)
    assert np.abs(taken(source)[:, 0] - expected.images * 255 / 16).max() <= 0.5
    assert np.array_equal(labels_of("digits", source.ids).codes, expected.target)
    assert np.array_equal(labels_of("digits", ["5", "2"]).codes, expected.target[[5, 2]])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("fashion-mnist", "fashion-mnist")])
def test_idx_files(root, name, folder, packed):
    (root / folder).mkdir(parents=True)
    images, codes = bytes_of(10, 28, 28), RNG.integers(0, 10, 10, dtype=np.uint8)
    for part, rows in (("train", slice(0, 7)), ("t10k", slice(7, 10))):
        write_idx(root / folder / f"{part}-images-idx3-ubyte", images[rows], packed)
        write_idx(root / folder / f"{part}-labels-idx1-ubyte", codes[rows], packed)
    source = open_source(name)
    assert np.array_equal(taken(source)[:, 0], images)
    assert source.family == ("glyph" if name == "mnist" else "photo")
    labels = labels_of(name, source.ids)
    assert np.array_equal(labels.codes, codes)
    assert len(labels.names) == 10
    broken = root / folder / ("t10k-images-idx3-ubyte" + (".gz" if packed else ""))
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.*put the data set's original file there"):
        open_source(name)


def write_batch(path: Path, pixels: np.ndarray, **lists: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"data": pixels.reshape(len(pixels), -1), **lists}, protocol=2))


def test_cifar10(root):
    folder = root / "cifar-10-batches-py"
    images, codes = bytes_of(12, 3, 32, 32), RNG.integers(0, 10, 12).tolist()
    for place, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        rows = slice(2 * place, 2 * place + 2)
        write_batch(folder / name, images[rows], labels=codes[rows])
    source = open_source("cifar10")
    assert np.array_equal(taken(source), images)
    labels = labels_of("cifar10", source.ids)
    assert labels.codes.tolist() == codes
    assert labels.names[0] == "airplane"


def test_cifar20_has_the_coarse_labels_of_cifar100(root):
    folder = root / "cifar100" / "cifar-100-python"
    images, coarse = bytes_of(6, 3, 32, 32), RNG.integers(0, 20, 6).tolist()
    write_batch(folder / "train", images[:4], coarse_labels=coarse[:4], fine_labels=[1, 2, 3, 4])
    write_batch(folder / "test", images[4:], coarse_labels=coarse[4:], fine_labels=[1, 2])
    (folder / "meta").write_bytes(pickle.dumps({"coarse_label_names": [f"kind{code}" for code in range(20)]}))
    source = open_source("cifar20")
    assert np.array_equal(taken(source), images)
    labels = labels_of("cifar20", source.ids)
    assert labels.codes.tolist() == coarse
    assert labels.names[3] == "kind3"


class Evil:
    def __reduce__(self):
        return print, ("run by the pickle",)


def test_a_batch_that_runs_code_is_refused(root, capsys):
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": Evil()}))
    with pytest.raises(InputError, match=r"data_batch_1 is no CIFAR batch .it holds builtins.print"):
        open_source("cifar10")
    assert capsys.readouterr().out == ""


def test_stl10_is_stored_by_columns_and_counts_from_one(root):
    folder = root / "stl10_binary"
    folder.mkdir()
    images, codes = bytes_of(5, 3, 96, 96), np.array([1, 10, 3, 4, 2], np.uint8)
    for part, rows in (("train", slice(0, 3)), ("test", slice(3, 5))):
        images[rows].transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        codes[rows].tofile(folder / f"{part}_y.bin")
    extra = bytes_of(4, 3, 96, 96)
    extra.transpose(0, 1, 3, 2).tofile(folder / "unlabeled_X.bin")
    source = open_source("stl10")
    assert np.array_equal(taken(source), images)
    assert labels_of("stl10", source.ids).codes.tolist() == [0, 9, 2, 3, 1]
    assert np.array_equal(taken(open_named("stl10", Options(), split="unlabeled")), extra)
    assert source.extra is not None
    assert np.array_equal(source.extra().take(torch.arange(4)).numpy(), extra)
    with pytest.raises(InputError, match="mnist has no unlabeled images"):
        open_named("mnist", Options(), split="unlabeled")
    (folder / "test_X.bin").write_bytes(b"123")
    with pytest.raises(InputError, match="no whole STL-10 file"):
        open_source("stl10")


def save_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(bytes_of(1, 64, 64, 3)[0]).save(folder / f"{folder.name}_{number}.JPEG")


def test_tiny_imagenet_folders(root):
    for synset in ("n01443537", "n01629819"):
        save_images(root / "tiny-imagenet-200" / "train" / synset / "images", 3)
        (root / "tiny-imagenet-200" / "train" / synset / "boxes.txt").write_text("")
    source = open_source("tiny-imagenet")
    assert source.items.spec == ItemSpec("images", 3, 64, 64)
    labels = labels_of("tiny-imagenet", source.ids)
    assert labels.codes.tolist() == [0, 0, 0, 1, 1, 1]
    assert labels.names == ["n01443537", "n01629819"]


@pytest.mark.parametrize(("name", "synsets"), [("imagenet10", IMAGENET10), ("imagenet-dogs", IMAGENET_DOGS)])
def test_imagenet_subsets_take_their_synsets_from_the_whole(root, name, synsets):
    assert len(set(synsets)) == (10 if name == "imagenet10" else 15)
    for synset in [*synsets, "n99999999"]:
        save_images(root / "imagenet" / "train" / synset, 2)
    source = open_source(name)
    assert len(source.items) == 2 * len(synsets)
    labels = labels_of(name, source.ids)
    assert labels.names == sorted(synsets)
    assert [name.split("/")[0] for name in source.ids] == [labels.names[code] for code in labels.codes]
    for file in (root / "imagenet" / "train" / synsets[-1]).iterdir():
        file.unlink()
    (root / "imagenet" / "train" / synsets[-1]).rmdir()
    with pytest.raises(InputError, match=f"lacks {synsets[-1]}"):
        open_source(name)


def test_medmnist_files(root):
    images = {part: bytes_of(3, 28, 28, 3) for part in ("train", "val", "test")}
    codes = {part: RNG.integers(0, 9, (3, 1)) for part in images}
    np.savez(
        root / "pathmnist.npz",
        **{f"{part}_images": pixels for part, pixels in images.items()},
        **{f"{part}_labels": labels for part, labels in codes.items()},
    )
    source = open_source("pathmnist")
    expected = np.concatenate([images["train"], images["val"], images["test"]])
    assert np.array_equal(taken(source), expected.transpose(0, 3, 1, 2))
    labels = labels_of("pathmnist", source.ids)
    flat = np.concatenate([codes[part] for part in ("train", "val", "test")])[:, 0]
    assert np.array_equal(labels.codes, np.searchsorted(np.unique(flat), flat))


def save_volumes(root: Path) -> tuple[np.ndarray, np.ndarray]:
    volumes, codes = bytes_of(12, 28, 28, 28), np.array([0, 1] * 6)
    parts = {"train": slice(0, 8), "val": slice(8, 10), "test": slice(10, 12)}
    arrays = {f"{part}_images": volumes[rows] for part, rows in parts.items()}
    labels = {f"{part}_labels": codes[rows, None] for part, rows in parts.items()}
    np.savez(root / "vesselmnist3d.npz", **arrays, **labels)
    return volumes, codes


def test_volumes_are_images_whose_channels_are_the_slices(root):
    volumes, codes = save_volumes(root)
    source = open_source("vesselmnist3d")
    assert source.items.spec == ItemSpec("images", 28, 28, 28)
    assert np.array_equal(taken(source), volumes)
    assert source.family == "glyph"  # of no mirror image and no crop is it known that it keeps a volume's meaning
    assert labels_of("vesselmnist3d", source.ids).codes.tolist() == codes.tolist()
    fitted = source.items.spec
    assert np.array_equal(taken(open_source("vesselmnist3d", like=fitted)), volumes)
    with pytest.raises(InputError, match="volumes, which keep their form"):
        open_source("vesselmnist3d", image_size=32)
    with pytest.raises(InputError, match="28 slices of 28x28 pixels, but the model was fitted on 1 channels"):
        open_source("vesselmnist3d", like=ItemSpec("images", 1, 28, 28))
    np.savez(root / "vesselmnist3d.npz", train_images=volumes[:, 0])
    with pytest.raises(InputError, match=r"but volumes are numbers \(n, d, h, w\)"):
        open_source("vesselmnist3d")


def test_every_view_of_a_volume_has_its_form(root):
    save_volumes(root)
    source = open_source("vesselmnist3d")
    raw, none, one = source.items.take(torch.arange(12)), torch.zeros(28), torch.ones(28)
    made = make_views(
        raw, RECIPES, Draw(torch.Generator().manual_seed(0), 12), ViewSettings(), source.family, none, one
    )
    assert [view.shape for view in made] == [raw.shape] * len(RECIPES)
    shifted = dict(zip(RECIPES, made, strict=True))["shifted"]
    same = raw[:, :1].expand(-1, 28, -1, -1)
    (moved,) = make_views(
        same, ["shifted"], Draw(torch.Generator().manual_seed(1), 12), ViewSettings(), "glyph", none, one
    )
    assert torch.equal(moved, moved[:, :1].expand_as(moved))  # all slices move alike
    assert not torch.equal(shifted, raw / 255)


def test_features_of_vgg16_are_embeddings_with_labels(root):
    features, codes = RNG.random((6, 4096), np.float32), np.array([3, 1, 0, 9, 3, 1])
    np.savez(root / "cifar10-vgg16fc1.npz", features=features, labels=codes)
    source = open_source("cifar10-vgg16fc1")
    assert (source.items.spec, source.family) == (ItemSpec("embeddings", dim=4096), "vector")
    assert np.array_equal(taken(source), features)
    labels = labels_of("cifar10-vgg16fc1", source.ids)
    assert [labels.names[code] for code in labels.codes][:2] == ["cat", "automobile"]


def test_every_named_set_but_one_says_how_many_groups_it_has():
    assert set(names()) - set(GROUPS) == {"chestmnist"}  # several findings an image
    assert set(GROUPS) <= set(names())


def test_any_set_may_come_as_a_table(root):
    table = {"image": [{"bytes": b"", "path": ""}] * 4, "label": [0, 1, 2, 1], "label_name": ["a", "b", "c", "b"]}
    for row, image in enumerate(bytes_of(4, 32, 32, 3)):
        Image.fromarray(image).save(root / "x.png")
        table["image"][row] = {"bytes": (root / "x.png").read_bytes(), "path": ""}
    pq.write_table(pa.table(table), root / "cifar10.parquet")
    source = open_source("cifar10")
    assert (source.name, len(source.items)) == ("cifar10", 4)
    labels = labels_of("cifar10", source.ids)
    assert (labels.codes.tolist(), labels.names) == ([0, 1, 2, 1], ["a", "b", "c"])


def test_what_is_not_here_is_asked_for_with_its_layout(root):
    for name in names():
        if name in ("digits", "fashion-mnist"):  # the latter may be installed as a system package
            continue
        with pytest.raises(InputError, match=f"The data set {name} is not here: put .*{root}"):
            open_source(name)
        with pytest.raises(InputError, match="is not here"):
            labels_of(name, ["0"])


def test_a_folder_of_the_same_name_is_pointed_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert any("write ./digits" in note for note in open_source("digits").notes)


def test_a_download_that_fails_is_told_in_a_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision names each mirror that it tried, and what that said, in lines of their own."""
    monkeypatch.setattr("urllib.request._opener", None)  # which would keep the proxies of its first use
    monkeypatch.setenv("no_proxy", "")
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("COTERIE_DOWNLOAD", "1")
    with pytest.raises(InputError, match=r"mnist could not be downloaded into .* \(Error downloading .*\)\."):
        open_source("mnist")
