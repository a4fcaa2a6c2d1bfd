"""`--finetune`: an encoder is trained on; its own weights are kept, and cached embeddings never stand for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from coterie import Clusterer, load
from coterie.data import open_source
from coterie.data.picture_form import shown_to
from coterie.encoders import embedding
from coterie.encoders.trunk import start_of_encoder
from coterie.networks.backbones import BackboneChoice, Start, build_backbone
from coterie.running.finetuning import Teacher
from coterie.types import InputError
from helpers.encoder_weights import random_weights

SMALL = "test_resnet"  # timm's own for tests
LIGHTLY = {"finetune": True, "epochs": 1, "random_state": 0, "calibrate": False}
LIGHTLY |= {"settings": {"scan3.learning_rate": 1e-5}}  # of random weights a step of the usual length upsets all


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights"), SMALL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twenty-four pictures in three colours, of two sizes."""
    folder, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    folder.mkdir()
    for row in range(24):
        pixels = rng.integers(20, 60, (40, 48 + 8 * (row % 2), 3))
        pixels[:, :, row % 3] += 160
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row:02d}.png")
    return folder


@pytest.fixture(scope="module")
def frozen(photos, weights, tmp_path_factory) -> Path:
    """A run on the embeddings."""
    run = tmp_path_factory.mktemp("runs") / "frozen"
    given = {"encoder": SMALL, "weights": weights, "image_size": 32, "random_state": 0, "calibrate": False}
    Clusterer(3, "kmeans", output=run, **given).fit(photos)
    return run


@pytest.fixture(scope="module")
def tuned(photos, frozen, tmp_path_factory) -> tuple[Clusterer, Path]:
    run = tmp_path_factory.mktemp("runs") / "tuned"
    return Clusterer(3, "auto", init=frozen, output=run, **LIGHTLY).fit(photos), run


def test_the_encoder_is_trained_and_its_weights_are_the_models_own(photos, weights, tuned):
    model, run = tuned
    assert model.record_["source"]["spec"]["kind"] == "images"
    assert model.record_["source"]["spec"]["encoding"]["encoder"] == SMALL
    assert [stage["name"] for stage in model.record_["stages"]] == ["scan3"]
    assert any("trained on here" in note for note in model.record_["notes"])
    first, now = load_file(weights), model.model_.net.backbone.trunk.state_dict()
    assert any(not torch.equal(value, first[name]) for name, value in now.items() if name.endswith("weight"))
    assert all(torch.equal(value, first[name]) for name, value in now.items() if "running" in name)
    again = load(run)
    np.testing.assert_array_equal(again.predict_proba(photos), model.predict_proba(photos))
    np.testing.assert_array_equal(model.predict(photos), model.labels_)


def test_a_new_picture_is_seen_by_the_trained_net_alone(photos, tuned, monkeypatch):
    """Neither the encoder's weights nor its cache are looked for when the model predicts."""
    model, run = tuned

    def refuse(*given, **more):
        raise AssertionError("the frozen encoder was asked")

    monkeypatch.setattr(embedding, "load_encoder", refuse)
    kept = load(run)
    alone = np.concatenate([kept.predict_proba([str(photos / f"{row:02d}.png")]) for row in range(4)])
    np.testing.assert_allclose(alone, model.predict_proba(photos)[:4], atol=1e-5)


def test_cached_embeddings_are_no_items_of_the_trained_model(frozen, tuned):
    model, run = tuned
    for features in (frozen / "cache" / "features", run / "cache" / "features"):
        with pytest.raises(InputError, match="give it those"):
            model.predict(features)
    with pytest.raises(InputError):
        model.predict(np.load(run / "cache" / "features" / "features.npy").astype(np.float32))


def test_without_an_epoch_the_answer_is_the_frozen_runs(photos, frozen):
    """The head begins as the run's groups, the backbone as the encoder: nothing is lost on the way."""
    start = Clusterer(3, "auto", init=frozen, finetune=True, epochs=0, random_state=0, calibrate=False).fit(photos)
    np.testing.assert_array_equal(start.labels_, load(frozen).labels_)


def test_pictures_are_shown_as_the_encoder_sees_them(photos, frozen):
    """Decoded for training and embedded by the encoder, or put through the backbone that begins as it: the same."""
    said = load(frozen).model_.spec.encoding
    opened = open_source(photos, shown=said)
    assert opened.items.spec == shown_to(said)
    trunk = build_backbone(said.model, opened.items.spec)
    start = start_of_encoder(said, opened.items.spec, "cpu")
    trunk.load_state_dict(start.state)
    pixels = opened.items.take(torch.arange(24)).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (said.mean, said.std))
    with torch.inference_mode():
        found = trunk.eval()((pixels - mean) / std).numpy()
    wanted = np.load(frozen / "cache" / "features" / "features.npy").astype(np.float32)
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())
    # Arrays of the very size are cut as files are.
    square = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    listed = open_source([Image.fromarray(one) for one in square], shown=said)
    rows = torch.arange(3)
    assert (open_source(square, shown=said).items.take(rows) == listed.items.take(rows)).all()
    if said.crop < 1:
        assert (listed.items.take(rows) != torch.from_numpy(square).permute(0, 3, 1, 2)).any()


def test_a_head_learns_what_the_run_says():
    rng = torch.Generator().manual_seed(0)
    features = 5 + 0.1 * torch.randn(90, 6, generator=rng)
    features[torch.arange(90), torch.arange(90) % 3] += 1
    said = torch.full((90, 3), 0.1)
    said[torch.arange(90), torch.arange(90) % 3] = 0.8
    head = nn.Linear(6, 3)
    Teacher(Start(BackboneChoice("x", "x"), {}, []), features, said).teach(head)
    p = head(features).softmax(1)
    assert (p.argmax(1) == said.argmax(1)).all()
    assert abs(float(p.detach().max(1).values.mean()) - 0.8) < 0.05


def test_the_same_seed_gives_the_same_model(photos, frozen, tuned):
    again = Clusterer(3, "auto", init=frozen, **LIGHTLY).fit(photos)
    np.testing.assert_array_equal(again.predict_proba(photos), tuned[0].predict_proba(photos))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"init": None}, "goes on from a finished run"),
        ({"method": "cdc"}, "done by scan3"),
        ({"n_clusters": 4}, "give n_clusters=3"),
        ({"encoder": SMALL}, "leave encoder out"),
        ({"image_size": 48}, "leave image_size out"),
        ({"backbone": "resnet18"}, "leave backbone"),
        ({"pretrain": "moco"}, "both train the backbone"),
    ],
)
def test_fine_tuning_with_other_wishes_is_refused(photos, frozen, settings, words):
    given = {"n_clusters": 3, "method": "auto", "init": frozen, "finetune": True, **settings}
    with pytest.raises(InputError, match=words):
        Clusterer(**given).fit(photos)


def test_several_seeds_share_the_embeddings(photos, frozen):
    model = Clusterer(3, "auto", init=frozen, runs=2, **{**LIGHTLY, "epochs": 0}).fit(photos)
    np.testing.assert_array_equal(model.ensemble_.labels, load(frozen).labels_)
    assert model.runs_["trust"]["agreement"] == 1


def test_a_run_without_an_encoder_has_none_to_train(photos, tmp_path):
    run = tmp_path / "pixels"
    Clusterer(3, "kmeans", calibrate=False, output=run).fit(photos)
    with pytest.raises(InputError, match="groups no embeddings that coterie made"):
        Clusterer(3, "auto", init=run, finetune=True).fit(photos)


def test_what_people_judged_trains_no_encoder(photos, frozen, tmp_path):
    """The head that judgements had taught said which pictures are alike, and the new run said nothing of it."""
    judged = shutil.copytree(frozen, tmp_path / "judged")
    record = (judged / "run.yaml").read_text()
    (judged / "run.yaml").write_text(record + "labels_used: {judged: 3, rows: 0-2}\n")
    merged = load(frozen).merge_groups([[0, 1]]).save(tmp_path / "merged")
    for run in (judged, merged):
        with pytest.raises(InputError, match="Judgements of people took part"):
            Clusterer(3, "auto", init=run, finetune=True, random_state=0).fit(photos)


def test_weights_that_have_changed_since_are_refused(photos, weights, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes(weights.read_bytes())
    run = tmp_path / "run"
    given = {"encoder": SMALL, "weights": own, "image_size": 32, "random_state": 0, "calibrate": False}
    Clusterer(3, "kmeans", output=run, **given).fit(photos)
    torch.manual_seed(1)
    save_file(timm.create_model(SMALL, pretrained=False, num_classes=0).state_dict(), own)
    with pytest.raises(InputError, match="other weights by now"):
        Clusterer(3, "auto", init=run, finetune=True, epochs=1).fit(photos)
