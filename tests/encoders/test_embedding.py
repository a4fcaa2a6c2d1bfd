"""Embeddings of pictures: which rows, by what values, from which source."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from coterie import embed
from coterie.data import open_source
from coterie.data.decode import decode
from coterie.data.extensions import open_image
from coterie.data.picture_form import shown_to
from coterie.embedder import How, embedded
from coterie.encoders import embedding, open_items
from coterie.encoders.catalogue import WHEEL
from coterie.encoders.loading import Encoder, load_encoder
from coterie.encoders.opening import Encode
from coterie.encoders.resolving import Wanted
from coterie.scaling.embedding import SpreadBy
from coterie.scaling.engines import Task
from coterie.training.sameness import same_items
from coterie.types import Encoding, InputError, ItemSpec

SMALL = "test_vit"


def wanted(weights: Path) -> Wanted:
    return Wanted(SMALL, str(weights))


def one_by_one(folder: Path, encoder: Encoder) -> np.ndarray:
    """The slow obvious way: each picture alone, by hand."""
    rows = []
    for path in sorted(folder.rglob("*.jpg"), key=lambda path: str(path.relative_to(folder))):
        image = Image.open(path).convert("RGB")
        side, short = encoder.encoding.size, min(image.size)
        cut = short * encoder.encoding.crop
        left, top = (image.width - cut) / 2, (image.height - cut) / 2
        shown = image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + cut, top + cut))
        rows.append(encoder(torch.from_numpy(np.array(shown)).permute(2, 0, 1)[None])[0].numpy())
    return np.stack(rows)


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a.astype(np.float64), b.astype(np.float64))]
    return float(1 - (unit[0] * unit[1]).sum(1).min())


def test_all_pictures_and_each_alone_give_the_same(photos, weights, tmp_path):
    made = embed(photos, SMALL, weights=weights, output=tmp_path / "features")
    assert made.shape == (40, load_encoder(wanted(weights)).width)
    assert cosine_distance(made, one_by_one(photos, load_encoder(wanted(weights)))) < 1e-3
    stored = np.load(tmp_path / "features" / "features.npy", mmap_mode="r")
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored.astype(np.float32), made)


def test_weights_are_found_from_another_working_directory(photos, weights, tmp_path, monkeypatch):
    """Of a model that was fitted in another one, of a run that is resumed, and by a worker of a cluster."""
    monkeypatch.chdir(weights.parent)
    made = open_items(photos, encode=Encode(wanted(Path(weights.name)))).items
    spec = asdict(made.spec)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def engine(task: Task, numbers: Sequence[int]) -> Iterator[str]:
        with contextlib.chdir(elsewhere):
            done = list(map(task, numbers))
        yield from done

    encode = Encode(wanted(Path(weights.name)), tmp_path / "features", spread=SpreadBy(str(photos), engine))
    spread = open_items(photos, encode=encode).items
    monkeypatch.chdir(elsewhere)
    one = next(photos.glob("*.jpg"))
    again = open_items(one, like=made.spec, device="cpu").items
    rows = torch.arange(len(made))
    torch.testing.assert_close(spread.take(rows), made.take(rows))
    assert len(again) == 1
    typed = {**spec, "encoding": {**spec["encoding"], "origin": weights.name}}  # as a record before had it
    assert same_items({"spec": typed}, {"spec": spec})
    assert not same_items({"spec": typed}, {"spec": {**spec, "encoding": {**spec["encoding"], "size": 64}}})


def test_an_embedding_does_not_depend_on_which_pictures_came_with_it(photos, weights):
    whole = embed(photos, SMALL, weights=weights)
    paths = sorted(map(str, photos.rglob("*.jpg")), key=lambda path: os.path.relpath(path, photos))
    some = [3, 17, 18, 39]
    np.testing.assert_array_equal(embed([paths[row] for row in some], SMALL, weights=weights), whole[some])


def test_the_embedded_encoder_too(photos):
    paths = sorted(map(str, photos.glob("*.jpg")))[:10]
    np.testing.assert_array_equal(embed(paths[4:6], WHEEL), embed(paths, WHEEL)[4:6])


def test_a_dry_run_counts_what_cannot_be_read_and_refuses_too_much_of_it(photos, weights):
    dry = Encode(wanted(weights), dry=True)
    (photos / "00.jpg").write_bytes(b"no picture")
    source = open_items(photos, encode=dry)
    assert [item.id for item in source.skipped] == ["00.jpg"]
    assert len(source.items) == len(source.ids) == 39
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"40 of the 40 images in .* cannot be read"):
        open_items(photos, encode=dry)
    with pytest.raises(InputError, match=r"n_samples=0 of the 40 images"):
        open_items(photos, encode=dry, max_skipped=1.0)


def test_a_dry_run_counts_the_loading_of_the_encoder_once(photos, weights, monkeypatch):
    """It was in the time of each picture: of many pictures the estimate was twice the time and more."""
    loads, batches, load, see = [], [], embedding.load_encoder, Encoder.__call__

    def loaded(asked):
        encoder = load(asked)
        loads.append(asked)
        return encoder

    def seen(self, pixels):
        batches.append(len(pixels))
        return see(self, pixels)

    monkeypatch.setattr(embedding, "load_encoder", loaded)
    monkeypatch.setattr(Encoder, "__call__", seen)
    clock = SimpleNamespace(monotonic=lambda: 100 * len(loads) + batches.count(4))
    monkeypatch.setattr(embedding, "time", clock)
    monkeypatch.setattr(embedding, "REHEARSED", 8)
    assert open_items(photos, encode=Encode(wanted(weights), dry=True)).embedding_seconds == 100 + 40 / 4


def test_pictures_that_cannot_be_read_are_named_and_have_no_row(photos, weights, tmp_path):
    (photos / "05.jpg").write_bytes(b"no picture")
    whole = (photos / "06.jpg").read_bytes()
    (photos / "06.jpg").write_bytes(whole[: len(whole) // 2])
    made = embed(photos, SMALL, weights=weights, output=tmp_path / "features", max_skipped=0.2)
    source = open_source(tmp_path / "features")
    assert made.shape[0] == len(source.ids) == 38
    assert {item.id: item.reason for item in source.skipped} == {"05.jpg": "not an image", "06.jpg": "truncated"}
    with pytest.raises(InputError, match=r"of the 40 images.*cannot be read"):
        embed(photos, SMALL, weights=weights)


def test_a_folder_of_embeddings_is_a_source_with_its_pictures(photos, weights, tmp_path):
    made = embed(photos, SMALL, weights=weights, output=tmp_path / "features")
    source = open_source(tmp_path / "features")
    np.testing.assert_array_equal(source.items.take(torch.arange(40)).numpy(), made)
    assert source.ids[:2] == ["00.jpg", "01.jpg"]
    assert source.items.spec.encoding == load_encoder(wanted(weights)).encoding
    shown = source.pictures.take(torch.tensor([0, 39]))
    assert shown.shape == (2, 3, 128, 128)
    shutil.rmtree(photos)
    assert open_source(tmp_path / "features").pictures is None


@pytest.mark.parametrize("damage", ["rows", "manifest", "items"])
def test_damaged_folders_of_embeddings_are_refused(photos, weights, tmp_path, damage):
    out = tmp_path / "features"
    embed(photos, SMALL, weights=weights, output=out)
    if damage == "rows":
        np.save(out / "features.npy", np.load(out / "features.npy")[:-1])
    elif damage == "manifest":
        record = json.loads((out / "features.json").read_text())
        record["encoding"]["weights"] = "../../etc"
        (out / "features.json").write_text(json.dumps(record))
    else:
        (out / "items.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="damaged"):
        open_source(out)


def test_the_same_pictures_as_files_array_table_and_dataset(weights, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), np.uint8)
    (tmp_path / "png").mkdir()
    cells = []
    for row, image in enumerate(pixels):
        path = tmp_path / "png" / f"{row:02d}.png"
        Image.fromarray(image).save(path)
        cells.append({"bytes": path.read_bytes(), "path": path.name})
    pq.write_table(pa.table({"image": cells, "label": list(range(12))}), tmp_path / "table.parquet")
    np.save(tmp_path / "pixels.npy", pixels)
    wanted = embed(tmp_path / "png", SMALL, weights=weights)
    dataset = [(Image.fromarray(image), 0) for image in pixels]
    for source in (pixels, tmp_path / "pixels.npy", tmp_path / "table.parquet", dataset, torch.from_numpy(pixels)):
        np.testing.assert_array_equal(embed(source, SMALL, weights=weights), wanted)


def test_grey_and_deep_pictures_are_shown_in_colour_by_the_models_rule(weights):
    """16-bit pictures are brought to 0 to 255 by one rule for all of the source, which new pictures follow."""
    deep = np.random.default_rng(0).integers(0, 4096, (20, 16, 16), np.uint16)
    source = embedded(deep, How(SMALL, weights, device="cpu"), max_skipped=0.0)
    spec = source.items.spec
    assert (spec.low, spec.high) == (0, 4095)
    encode = Encode(wanted(weights))
    dark = open_items(deep[:4] // 8, like=spec, encode=encode).items.take(torch.arange(4))
    alone = embed(deep[:4] // 8, SMALL, weights=weights)
    assert not np.allclose(dark.numpy(), alone), "few of them would be stretched by their own range"


def test_large_jpegs_are_decoded_small(tmp_path):
    """Draft mode: 12 megapixels for 224 pixels are read at an eighth of their size, and look the same."""
    rough = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    large = Image.fromarray(rough).resize((4000, 3000), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=92)
    sizes = []

    def load(row: int) -> Image.Image:
        image = open_image(tmp_path / "large.jpg")
        plain = image.load

        def noted():
            sizes.append(image.size)
            return plain()

        image.load = noted
        return image

    spec = shown_to(Encoding("any", "any", "", "", "", 224, crop=0.875))
    small = decode(load, 0, spec).astype(float)
    assert sizes[0][0] <= 1000
    cut = 3000 * 0.875
    box = ((4000 - cut) / 2, (3000 - cut) / 2, (4000 + cut) / 2, (3000 + cut) / 2)
    exact = np.asarray(large.resize((224, 224), Image.Resampling.BICUBIC, box=box)).transpose(2, 0, 1)
    assert np.abs(small - exact).mean() < 3


def test_features_that_half_precision_cannot_hold_are_refused(many, weights, monkeypatch):
    plain = Encoder.__call__
    monkeypatch.setattr(Encoder, "__call__", lambda self, pixels: plain(self, pixels) * 1e6)
    with pytest.raises(InputError, match="half precision cannot hold"):
        embed(many[:20], SMALL, weights=weights)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_half_precision_holds_is_taken_up_to_its_largest_number(many, weights, monkeypatch, sign):
    plain = Encoder.__call__

    def constant(value):
        monkeypatch.setattr(
            Encoder, "__call__", lambda self, pixels: torch.full_like(plain(self, pixels), sign * value)
        )
        return np.asarray(embed(many[:4], SMALL, weights=weights))

    assert (constant(65_472.0) == sign * 65_472).all()  # the largest but one
    with pytest.raises(InputError, match="half precision cannot hold"):
        constant(65_504.0)


def test_embedding_leaves_the_threads_as_they_were(photos, weights):
    before = torch.get_num_threads()
    embed(photos, SMALL, weights=weights)
    assert torch.get_num_threads() == before


def test_a_model_takes_only_its_own_encoder(photos, weights, tmp_path):
    source = embedded(photos, How(SMALL, weights, device="cpu"), max_skipped=0.0)
    spec = source.items.spec
    again = open_items(photos, like=spec)
    assert torch.equal(again.items.take(torch.arange(40)), source.items.take(torch.arange(40)))
    embed(photos, SMALL, weights=weights, pooling="mean", output=tmp_path / "mean")
    with pytest.raises(InputError, match=r"with pooling mean, but the model was fitted with own"):
        open_items(tmp_path / "mean", like=spec)
    with pytest.raises(InputError, match="do not say where they come from"):
        open_items(np.zeros((3, spec.dim), np.float32), like=spec)
    other = replace(spec, encoding=replace(spec.encoding, weights="0" * 64))
    with pytest.raises(InputError, match="with weights"):
        open_items(photos, like=other)
    plain = ItemSpec("embeddings", dim=spec.dim)
    embed(photos, SMALL, weights=weights, output=tmp_path / "own")
    with pytest.raises(InputError, match="fitted on embeddings"):
        open_items(tmp_path / "own", like=plain)


def test_vectors_are_no_pictures(weights):
    with pytest.raises(InputError, match="holds embeddings, and the encoder test_vit reads pictures"):
        embed(np.random.default_rng(0).normal(size=(20, 8)), SMALL, weights=weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": "none"}, "nothing to embed"),
        ({"encoder": " "}, "no name"),
        ({"pooling": "max"}, "one of own"),
        ({"image_size": 8}, "between 16"),
        ({"precision": "fp64"}, "Unknown precision"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(InputError, match=words):
        embed(np.zeros((4, 8, 8, 3), np.uint8), **{"encoder": SMALL, **settings})


def test_embed_pictures_in_memory_and_in_a_folder_are_the_same_source(many, weights, tmp_path):
    sources = [open_items(many, encode=Encode(wanted(weights), folder)) for folder in (None, tmp_path / "features")]
    assert sources[0].fingerprint == sources[1].fingerprint
    assert sources[0].items.spec == sources[1].items.spec
    assert list(sources[0].ids) == list(sources[1].ids)
    rows = torch.arange(len(many))
    assert torch.equal(sources[0].items.take(rows), sources[1].items.take(rows))
