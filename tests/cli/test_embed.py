from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import coterie.cli.embed  # noqa: F401  first imported beside a patched at_hand, it would keep that
from coterie.encoders import weights as weights_of
from coterie.encoders.catalogue import ENTRIES, WHEEL
from coterie.encoders.loading import Encoder
from coterie.encoders.store import lend
from coterie.prediction.embedding import embed_run
from coterie.prediction.results import read_result
from helpers.encoder_weights import random_weights

SMALL = "test_vit"
ENCODER = ("--encoder", SMALL, "--weights")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights"), SMALL)


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Thirty small photographs in three colours."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for row in range(30):
        plain = np.full((6, 6, 3), (40, 40, 40), np.uint8)
        plain[..., row % 3] = 220
        noisy = np.clip(plain + rng.integers(-30, 30, plain.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{row:02d}.png")
    return folder


@pytest.fixture(scope="module")
def encoded(coterie, colours, weights, tmp_path_factory) -> Path:
    """The folder of a finished run over embedded pictures."""
    run = tmp_path_factory.mktemp("encoded") / "run"
    answer = coterie("fit", colours, "-k", 3, "-o", run, "--epochs", 2, "--device", "cpu", *ENCODER, weights)
    assert answer.code == 0, answer.err
    return run


def test_what_a_run_embedded_is_not_embedded_again_for_duplicates_or_a_review(coterie, encoded, tmp_path, monkeypatch):
    seen, whole = [], Encoder.__call__

    def counted(self, pixels):
        seen.extend([len(pixels)] if len(pixels) > 1 else [])  # one picture is shown when an encoder is loaded
        return whole(self, pixels)

    monkeypatch.setattr(Encoder, "__call__", counted)
    run = tmp_path / "run"
    shutil.copytree(encoded, run)
    ids = read_result(run / "result.parquet").ids
    before = {path.name: path.read_bytes() for path in (run / "cache" / "features").iterdir()}
    kept = coterie("duplicates", run, "--json").object
    embed_run(run, ids, tmp_path / "kept.npy")
    assert seen == []
    assert {path.name: path.read_bytes() for path in (run / "cache" / "features").iterdir()} == before
    shutil.rmtree(run / "cache")
    assert coterie("duplicates", run, "--json").object == kept
    embed_run(run, ids, tmp_path / "again.npy")
    assert sum(seen) >= 60
    np.testing.assert_array_equal(np.load(tmp_path / "kept.npy"), np.load(tmp_path / "again.npy"))


def test_embed_writes_a_folder_that_fit_takes(coterie, colours, weights, tmp_path):
    out = tmp_path / "features"
    answer = coterie("embed", colours, "-o", out, *ENCODER, weights, "--json")
    assert answer.code == 0, answer.err
    said = answer.object
    assert (said["n"], said["dim"], said["encoder"], said["skipped"]) == (30, 64, SMALL, 0)
    assert [note for note in said["notes"] if "embedded by" in note]
    assert {path.name for path in out.iterdir()} == {"features.npy", "features.json", "items.parquet"}
    manifest = json.loads((out / "features.json").read_text())
    assert manifest["encoding"]["licence"] == said["licence"]
    assert manifest["encoding"]["weights"] == said["weights"]
    assert set(manifest["versions"]) >= {"coterie", "torch", "timm", "pillow"}
    fitted = coterie("fit", out, "-k", 3, "-o", tmp_path / "run", "--epochs", 2, "--json")
    assert fitted.code == 0, fitted.err
    assert pq.read_table(tmp_path / "run" / "result.parquet")["id"].to_pylist()[:2] == ["00.png", "01.png"]
    assert (tmp_path / "run" / "gallery.npz").exists()


def test_a_run_over_embedded_pictures_shows_them_and_says_by_what(encoded):
    record = yaml.safe_load((encoded / "run.yaml").read_text())
    assert record["source"]["spec"]["encoding"]["encoder"] == SMALL
    assert record["embedding_seconds"] > 0
    assert any("embedded by test_vit" in note for note in record["source"]["notes"])
    page = (encoded / "report.html").read_text()
    assert "data:image/png" in page or "data:image/jpeg" in page
    assert "embedded by test_vit" in page
    assert [stage["name"] for stage in record["stages"]] == ["cdc"]


def test_a_dry_run_of_many_pictures_does_not_know_whether_they_have_changed(coterie, weights, tmp_path):
    """It embeds 64 of them; their fingerprint was taken for another folder's."""
    photos, run, judged = tmp_path / "photos", tmp_path / "run", tmp_path / "judged.csv"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    for row, picture in enumerate(pixels):
        Image.fromarray(picture).save(photos / f"{row:02d}.png")
    fit = ("fit", photos, "-k", 3, "--epochs", 1, "--device", "cpu", *ENCODER, weights)
    assert coterie(*fit, "-o", run).code == 0
    answer = coterie(*fit, "-o", run, "--resume", "--dry-run")
    assert answer.code == 0, answer.err
    judged.write_text("id,right\n00.png,true\n")
    answer = coterie("fit", photos, "-k", 3, *ENCODER, weights, "--init", run, "--judged", judged, "--dry-run")
    assert "holds others" not in answer.err
    (photos / "03.png").unlink()
    assert "The data have changed" in coterie(*fit, "-o", run, "--resume").err


def test_predict_puts_new_pictures_through_the_same_encoder(coterie, encoded, colours, tmp_path):
    answer = coterie("predict", encoded, colours, "-o", tmp_path / "same.parquet")
    assert answer.code == 0, answer.err
    fitted, again = pq.read_table(encoded / "result.parquet"), pq.read_table(tmp_path / "same.parquet")
    for column in ("id", "label", "confidence"):
        assert fitted[column].equals(again[column]), column
    one = coterie("predict", encoded, colours / "04.png", "-o", tmp_path / "one.parquet")
    assert one.code == 0, one.err
    assert pq.read_table(tmp_path / "one.parquet")["label"].to_pylist() == [fitted["label"][4].as_py()]


def test_predict_refuses_other_weights_and_bare_vectors(coterie, colours, weights, tmp_path):
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    run = tmp_path / "run"
    fit = ("fit", colours, "-k", 3, "-o", run, "--epochs", 1, "--encoder", SMALL, "--weights", moved)
    assert coterie(*fit).code == 0
    torch.manual_seed(1)
    save_file(timm.create_model(SMALL, pretrained=False, num_classes=0).state_dict(), moved)
    answer = coterie("predict", run, colours, "-o", tmp_path / "p.parquet")
    assert answer.code == 2
    assert "with weights" in answer.err
    np.save(tmp_path / "x.npy", np.zeros((4, 64), np.float32))
    answer = coterie("predict", run, tmp_path / "x.npy", "-o", tmp_path / "p.parquet")
    assert answer.code == 2
    assert "do not say where they come from" in answer.err


def test_a_run_of_embedded_pictures_is_resumed_and_not_without_its_encoder(coterie, colours, encoded, weights):
    again = ("fit", colours, "-k", 3, "-o", encoded, "--epochs", 2, "--device", "cpu", "--resume", "--json")
    assert coterie(*again, *ENCODER, weights).code == 0
    answer = coterie(*again, "--encoder", "none")
    assert answer.code == 2
    assert "The data have changed" in answer.err or "begun with" in answer.err


def test_photographs_are_embedded_unasked_and_a_note_says_so(coterie, colours):
    answer = coterie("fit", colours, "-k", 3, "--dry-run", "--json")
    assert answer.code == 0, answer.err
    plan = answer.object
    assert plan["source"]["spec"]["encoding"]["encoder"] == WHEEL
    assert [stage["name"] for stage in plan["stages"]] == ["cdc"]
    assert any(note.startswith("Photographs: embedded by") for note in plan["notes"])
    shown = coterie("fit", colours, "-k", 3, "--dry-run")
    assert yaml.safe_load(shown.out)["estimate"].split(": ")[1].startswith("embedding ")


def test_an_encoder_beside_a_method_that_reads_pictures_is_refused_early(coterie, colours, weights, tmp_path):
    out = tmp_path / "run"
    answer = coterie("fit", colours, "-k", 3, "--method", "pica", *ENCODER, weights, "-o", out)
    assert answer.code == 2
    assert "'pica' reads the pictures themselves" in answer.err
    assert not out.exists()
    for wrong in ("cels=4", "cdc.cells=many", "views.flop=0"):  # nothing is embedded for a slip of the keyboard
        answer = coterie("fit", colours, "-k", 3, "--method", "cdc", *ENCODER, weights, "-o", out, "--set", wrong)
        assert answer.code == 2
        assert not out.exists()
    answer = coterie("fit", colours, "-k", 3, "--method", "pica", "--encoder", "auto", "--dry-run", "--json")
    assert answer.object["source"]["kind"] == "images"


@pytest.mark.parametrize(
    "options",
    [
        ("--encoder", "none", "--backbone", "small-4"),
        ("--method", "cdc", "--backbone", "small-4"),
    ],
)
def test_what_trains_a_net_does_as_before(coterie, colours, options):
    answer = coterie("fit", colours, "-k", 3, "--dry-run", "--json", "--device", "cpu", *options)
    assert answer.code == 0, answer.err
    plan = answer.object
    assert plan["source"]["kind"] == "images"
    assert [stage["name"] for stage in plan["stages"]] == ["moco", "cdc"]


def test_small_grey_pictures_train_a_net(coterie, images):
    plan = coterie("fit", images, "-k", 10, "--dry-run", "--json").object
    assert plan["source"]["kind"] == "images"
    assert any(note.startswith("Small grey pictures") for note in plan["notes"])


def test_without_any_encoder_a_net_is_trained_and_said(coterie, colours, monkeypatch):
    monkeypatch.setattr(weights_of, "at_hand", lambda entry: None)
    plan = coterie("fit", colours, "-k", 3, "--dry-run", "--json").object
    assert plan["source"]["kind"] == "images"
    assert any("pip install 'coterie[encoder]'" in note for note in plan["notes"])
    answer = coterie("embed", colours, "-o", "never")
    assert answer.code == 2
    assert "No encoder is on this computer" in answer.err
    assert not Path("never").exists()


def test_encoders_are_listed_with_their_licences(coterie):
    rows = {row["name"]: row for row in coterie("encoders", "--json").object}
    assert set(rows) == {entry.name for entry in ENTRIES}
    assert all(row["licence"] and row["taught"] for row in rows.values())
    assert "package" in rows[WHEEL]["here"]
    assert "DINOv3" in rows["dinov3-small"]["licence"]
    told = coterie("encoders").out
    assert all(name in told for name in rows)


def offline(monkeypatch, tmp_path, *, flag: bool = True) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    if flag:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("command", ["embed", "fit"])
def test_offline_one_sentence_names_the_file_and_what_can_be_had(coterie, colours, tmp_path, monkeypatch, command):
    offline(monkeypatch, tmp_path)
    extra = ("-k", 3) if command == "fit" else ()
    answer = coterie(command, colours, "-o", tmp_path / "out", "--encoder", "dinov2-small", *extra)
    assert answer.code == 2
    for words in (
        "HF_HUB_OFFLINE is 1",
        "model.safetensors",
        "timm/vit_small_patch14_dinov2.lvd142m",
        "--weights FILE",
    ):
        assert words in answer.err
    assert f"--encoder {WHEEL}" in answer.err
    assert str(tmp_path / "hf") in answer.err
    assert not (tmp_path / "out").exists()


def test_without_a_network_nobody_waits(coterie, colours, tmp_path, monkeypatch):
    """A network that swallows everything: neither the look-up of the name nor the connection answers."""
    offline(monkeypatch, tmp_path, flag=False)
    monkeypatch.setattr(weights_of, "PATIENCE", 0.2)

    def nothing(*_: object, **__: object) -> None:
        time.sleep(1)
        raise OSError("at last")

    monkeypatch.setattr(socket, "create_connection", nothing)
    answer = coterie("embed", colours, "-o", tmp_path / "out", "--encoder", "clip-b32")
    assert answer.code == 2
    assert "does not answer: no answer" in answer.err


def test_the_cache_of_hugging_face_is_found_without_its_library(tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    (entry,) = (entry for entry in ENTRIES if entry.name == "dinov2-small")
    assert weights_of.at_hand(entry) is None
    folder = tmp_path / "hf" / "hub" / "models--timm--vit_small_patch14_dinov2.lvd142m"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(b"x")
    from huggingface_hub import try_to_load_from_cache

    found = weights_of.at_hand(entry)
    theirs = try_to_load_from_cache(
        "timm/vit_small_patch14_dinov2.lvd142m", "model.safetensors", cache_dir=tmp_path / "hf" / "hub"
    )
    assert os.fspath(found.path) == theirs
    assert weights_of.preferred("cpu", 1000) == "dinov2-small"
    assert weights_of.preferred("cpu", 50_000) == WHEEL
    assert weights_of.preferred("cuda", 50_000) == "dinov2-small"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--encoder", "resnet5000"), "did you mean"),
        (("--encoder", WHEEL, "--weights", "nowhere.pth"), "nowhere.pth does not exist"),
        (("--encoder", WHEEL, "--init", "run"), "leave one out"),
        (("--encoder", WHEEL, "--pretrained"), "leave one out"),
    ],
)
def test_what_cannot_be_is_refused(coterie, colours, tmp_path, options, words):
    answer = coterie("fit", colours, "-k", 3, "-o", tmp_path / "run", *options)
    assert answer.code == 2
    assert words in answer.err
    assert not (tmp_path / "run").exists()


def test_several_seeds_embed_once(coterie, colours, weights, tmp_path, monkeypatch):
    out = tmp_path / "runs"
    fit = ("fit", colours, "-k", 3, "-o", out, "--epochs", 1, "--device", "cpu", "--runs", 2, *ENCODER, weights)
    answer = coterie(*fit)
    assert answer.code == 0, answer.err
    folders = [out / f"seed-{seed}" / "cache" / "features" for seed in (0, 1)]
    first, second = (folder / "features.npy" for folder in folders)
    assert first.read_bytes() == second.read_bytes()
    lent = tmp_path / "lent" / "seed-9"
    lend(out / "seed-0", lent)
    seen = []
    monkeypatch.setattr(Encoder, "__call__", lambda self, pixels: seen.append(len(pixels)) or torch.zeros(1, 64))
    again = ("fit", colours, "-k", 3, "-o", lent, "--epochs", 1, "--device", "cpu", *ENCODER, weights)
    assert coterie(*again).code == 0
    assert seen == [1], "the width is asked for once, and no picture is looked at"


def test_an_encoder_without_pictures_is_refused(coterie, vectors, weights, tmp_path):
    answer = coterie("fit", vectors, "-k", 3, "-o", tmp_path / "run", *ENCODER, weights)
    assert answer.code == 2
    assert "holds embeddings, and the encoder test_vit reads pictures" in answer.err


def test_there_is_nothing_to_embed_in_embeddings(coterie, vectors, weights, tmp_path):
    answer = coterie("embed", vectors, "-o", tmp_path / "features", *ENCODER, weights)
    assert answer.code == 2
    assert "reads pictures: there is nothing to embed." in answer.err


def test_a_source_is_never_written_to(coterie, colours):
    answer = coterie("embed", colours, "-o", colours)
    assert answer.code == 2
    assert "would replace it" in answer.err


@pytest.mark.parametrize(("count", "k"), [(1, None), (12, 3)])
def test_no_more_groups_are_proposed_than_the_pictures_can_have(coterie, colours, weights, tmp_path, count, k):
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(colours.iterdir())[:count]:
        shutil.copy(path, few)
    answer = coterie("embed", few, "-o", tmp_path / "features", *ENCODER, weights)
    assert answer.code == 0, answer.err
    assert (f"-k {k} " in answer.err) == (k is not None)
    assert ("Next:" in answer.err) == (k is not None)
