"""What a backbone begins with: no choice of method, backbone and weights may end in features of a random net."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from coterie import Clusterer, load
from coterie.catalogue import method_class, method_names
from coterie.contract import name_of
from coterie.pipeline import run
from coterie.running.beginning import epochs_of
from coterie.running.prepared import Prepared, Watch
from coterie.running.preparing import prepare
from coterie.training.passes import plan_passes
from coterie.training.plan import RunSettings
from coterie.types import InputError

TINY = "test_resnet"  # timm's, 0.4 million parameters
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
VECTORS = RANDOM.normal(size=(24, 12)).astype(np.float32)
BACKBONES = ("auto", "small-8", "sobel+small-8", f"sobel+{TINY}", "ae", "ae-conv", "identity", "mlp", "pica-resnet34")


@functools.cache
def trained(name: str) -> dict[str, torch.Tensor]:
    """Weights that no seed draws; not to be changed."""
    torch.manual_seed(99)
    state = timm.create_model(name).state_dict()
    return {key: value + 0.01 if value.is_floating_point() else value for key, value in state.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    for name in (TINY, "resnet18"):
        save_file(trained(name), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in (TINY, "resnet18")}


@pytest.fixture
def hub(tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache with the weights in it, and no network."""
    import huggingface_hub.constants

    for name, file in files.items():
        repository = tmp_path / f"models--{timm.get_pretrained_cfg(name).hf_hub_id.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("a" * 40)
        snapshot = repository / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").symlink_to(file)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def begin(data: np.ndarray, **settings: Any) -> Prepared:
    given = {"n_clusters": 3, "device": "cpu", **settings}
    return prepare(data, RunSettings(**given), None, resume=False, watch=Watch())


def holds(state: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, given[key]) for key, value in state.items())


@pytest.mark.parametrize("name", method_names())
def test_every_beginning_is_refused_or_loaded_whole_or_trained(name: str, hub: Path, files: dict[str, Path]) -> None:
    weights, seen = trained(TINY), 0
    for data, kind in ((IMAGES, "images"), (VECTORS, "embeddings")):
        for backbone in (*BACKBONES, TINY):
            for beginning in ({}, {"pretrained": True}, {"weights": str(files[TINY])}):
                try:
                    prepared = begin(data, method=name, backbone=backbone, **beginning)
                except InputError:
                    continue
                stages, seen = prepared.plan.stages, seen + 1
                if beginning:
                    assert prepared.start is not None
                    assert holds(prepared.start.state, weights)
                    continue
                assert prepared.start is None
                first = method_class(type(stages[0]).__module__.rsplit(".", 1)[-1]).card
                whole = first.starts_from is None or kind not in first.starts_on
                assert whole  # no stage was dropped
                assert epochs_of(stages[0]) > 0 or prepared.backbone.name in ("identity", "mlp")
    assert seen >= 3


@pytest.mark.parametrize("beginning", ["pretrained", "weights"])
@pytest.mark.parametrize("method", ["cdc", "dec", "idec", "moco", "pica", "finch"])
def test_a_backbone_without_such_weights_is_refused_with_what_to_do(
    method: str, beginning: str, files: dict[str, Path]
) -> None:
    given = {"pretrained": True} if beginning == "pretrained" else {"weights": str(files["resnet18"])}
    with pytest.raises(InputError, match="--backbone"):
        begin(IMAGES, method=method, **given)


def test_weights_for_embeddings_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"embeddings.*leave --pretrained out"):
        begin(VECTORS, pretrained=True)
    with pytest.raises(InputError, match=r"resnet18\.safetensors does not fit backbone 'mlp'.*leave --weights out"):
        begin(VECTORS, weights=str(files["resnet18"]))
    with pytest.raises(InputError, match=r"'identity' has no weights.*leave --weights out"):
        begin(VECTORS, method="finch", weights=str(files["resnet18"]))


@pytest.mark.parametrize("stages", [["moco", "cdc"], ["ae", "idec"], ["pica"], ["finch"], ["dec"]])
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_stage_is_left_out_only_for_weights_that_stand_for_it(
    stages: list[str], pretrained: bool, hub: Path, files: dict[str, Path]
) -> None:
    given = {"pretrained": True} if pretrained else {"weights": str(files[TINY])}
    prepared = begin(IMAGES, method=stages[-1], backbone=TINY, **given)
    kept = [type(stage).__module__.rsplit(".", 1)[-1] for stage in prepared.plan.stages]
    assert kept == (stages[-1:] if stages[0] == "moco" else stages)


@pytest.mark.parametrize(
    "given",
    [
        {"pretrained": True, "weights": "w.pth"},
        {"init": "runs/a", "weights": "w.pth"},
        {"init": "a", "pretrained": True},
    ],
)
def test_two_beginnings_of_one_backbone_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="leave all but one out"):
        begin(IMAGES, **given)


@pytest.mark.parametrize("setting", [{"pica.init": "kaiming"}, {"pica.bn_gamma": "uniform"}])
def test_weights_are_not_drawn_anew_over_what_was_loaded(setting: dict[str, Any], files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="leave one of them out"):
        begin(IMAGES, method="pica", backbone=TINY, weights=str(files[TINY]), overrides=setting)


@pytest.mark.parametrize("backbone", ["small-8", TINY, "ae"])
def test_what_trains_nothing_takes_no_random_backbone(backbone: str) -> None:
    with pytest.raises(InputError, match=r"keep its random weights.*--weights FILE or --init RUN"):
        begin(IMAGES, method="finch", backbone=backbone)


# A ResNet of timm or torchvision on small images


@pytest.mark.parametrize("pretrained", [True, False])
def test_small_images_keep_the_first_layers_that_the_weights_have(
    pretrained: bool, hub: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"pretrained": True} if pretrained else {"weights": files["resnet18"]}
    out = tmp_path / "out"
    model = Clusterer(3, "finch", backbone="resnet18", random_state=0, device="cpu", output=out, **given).fit(IMAGES)
    assert holds(model.model_.net.backbone.trunk.state_dict(), trained("resnet18"))
    assert any("keeps the first layers" in note and "--image-size" in note for note in model.record_["notes"])
    again = load(model.save(tmp_path / "run"))
    assert np.array_equal(again.predict_proba(IMAGES), model.predict_proba(IMAGES))
    on = RunSettings(
        3,
        method="finch",
        backbone="resnet18",
        device="cpu",
        **{k: str(v) if k == "weights" else v for k, v in given.items()},
    )
    prepared = prepare(IMAGES, on, out, resume=True, watch=Watch())
    prepared.folder.release()
    assert prepared.start is None  # the weights are in its checkpoint
    assert set(model.record_["beginning"]["notes"]) <= set(prepared.plan.notes)


def test_weights_with_the_small_stem_keep_the_small_stem(tmp_path: Path) -> None:
    state = trained("resnet18") | {"conv1.weight": torch.randn(64, 3, 3, 3)}
    torch.save({"state_dict": state}, tmp_path / "cifar.pth")
    prepared = begin(IMAGES, backbone="resnet18", weights=str(tmp_path / "cifar.pth"))
    assert prepared.backbone.name == "resnet18"
    assert prepared.start is not None
    assert holds(prepared.start.state, state)


def test_weights_of_colour_images_are_summed_for_grey_ones(files: dict[str, Path]) -> None:
    prepared = begin(IMAGES[..., 0], backbone="resnet18", weights=str(files["resnet18"]))
    assert prepared.start is not None
    assert torch.equal(prepared.start.state["conv1.weight"], trained("resnet18")["conv1.weight"].sum(1, keepdim=True))
    assert any("summed over the colours" in note for note in prepared.plan.notes)


def test_a_part_that_is_missing_or_of_another_shape_is_named(tmp_path: Path) -> None:
    state = trained(TINY)
    first = next(iter(state))
    save_file({key: value for key, value in state.items() if key != first}, tmp_path / "less.safetensors")
    with pytest.raises(InputError, match=rf"1 of \d+ entries do not fit, first '{first}', which is not in the file"):
        begin(IMAGES, backbone=TINY, weights=str(tmp_path / "less.safetensors"))
    save_file({**state, first: state[first][:2].clone()}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=rf"first '{first}', which is of shape \(2, .* --image-size"):
        begin(IMAGES, backbone=TINY, weights=str(tmp_path / "other.safetensors"))
    save_file({**state, first: state[first] * float("nan")}, tmp_path / "nan.safetensors")
    with pytest.raises(InputError, match=f"not finite, first in '{first}'"):
        begin(IMAGES, backbone=TINY, weights=str(tmp_path / "nan.safetensors"))


def test_a_start_from_a_run_brings_its_own_backbone(tmp_path: Path) -> None:
    Clusterer(3, "finch", output=tmp_path / "run", random_state=0).fit(IMAGES)
    with pytest.raises(InputError, match=r"its own backbone, 'identity': leave --backbone small-8 out"):
        begin(IMAGES, method="finch", init=str(tmp_path / "run"), backbone="small-8")
    with pytest.raises(InputError, match=r"trained no backbone.*give a run of moco"):
        begin(IMAGES, init=str(tmp_path / "run"))


# Without a network


def test_weights_that_cannot_be_fetched_are_one_sentence_that_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    tries: list[object] = []

    def refuse(*args: object, **kwargs: object) -> None:
        tries.append(args)
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    environment = dict(os.environ)
    with pytest.raises(InputError, match=f"cannot be fetched .*--backbone {TINY} --weights FILE"):
        begin(IMAGES, backbone=TINY, pretrained=True)
    assert len(tries) <= 2  # a download tries for a minute and a half
    assert dict(os.environ) == environment


@pytest.mark.parametrize("name", ["test_vit4", "resnet18.nobody_in1k"])
def test_a_model_that_timm_has_no_weights_of_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}.* has no pretrained weights"):
        begin(IMAGES, backbone=name, pretrained=True)


@pytest.mark.parametrize("more", [{"scan.head": "mlp"}, {"scan3.head": "mlp"}])
def test_a_stage_that_cannot_go_on_with_the_head_before_it_is_refused_before_training(
    more: dict[str, Any], tmp_path: Path
) -> None:
    x = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    watch = Watch(say=lambda text: pytest.fail(f"began: {text}"))
    with pytest.raises(InputError, match=r"SCAN-3 goes on with the cluster of scan, .* scan3 the same head\."):
        run(x, RunSettings(3, "scan3", overrides=more, device="cpu"), tmp_path / "run", watch=watch)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_to_start_from_with_another_form_of_head_is_named(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    run(x, RunSettings(3, "scan", overrides={"scan.epochs": 1}, device="cpu", calibrate=False), tmp_path / "scan")
    again = RunSettings(3, "scan3", init=str(tmp_path / "scan"), overrides={"scan3.head": "mlp"}, device="cpu")
    with pytest.raises(InputError, match=r"the cluster of the run .*scan, which has another form there"):
        run(x, again)


def test_another_number_of_groups_than_the_run_to_start_from_is_named(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    run(x, RunSettings(3, "scan", overrides={"scan.epochs": 1}, device="cpu", calibrate=False), tmp_path / "scan")
    with pytest.raises(InputError, match="the same -k 3"):
        run(x, RunSettings(4, "scan3", init=str(tmp_path / "scan"), device="cpu"))


@pytest.mark.parametrize(
    ("name", "before", "said"), [("conr", "kmeans", "byol is trained first"), ("idec", "kmeans", "or give a run of ae")]
)
def test_a_head_that_no_finished_run_keeps_is_not_asked_for(name: str, before: str, said: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    run(images, RunSettings(3, before, device="cpu", calibrate=False, backbone="identity"), tmp_path / "run")
    with pytest.raises(InputError, match=f"which {name} goes on with: leave --init out, .*{said}"):
        run(images, RunSettings(3, name, init=str(tmp_path / "run"), device="cpu"))


def test_a_run_of_dae_gives_its_decoder_to_others(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    short = {"dae.epochs": 1}
    run(images, RunSettings(3, "dae", overrides=short, device="cpu", calibrate=False), tmp_path / "run")
    assert "decoder" in load(tmp_path / "run").model_.net.head_names
    again = RunSettings(3, "idec", init=str(tmp_path / "run"), device="cpu")
    assert prepare(images, again, None, resume=False, watch=Watch()).plan.method.card.title == "IDEC"


LEARN_FEATURES = {"acai", "ae", "byol", "dae", "moco", "simclr", "simsiam", "vae"}  # and answer by K-means on them


def test_a_method_that_could_train_nothing_of_its_answer_is_refused(tmp_path: Path) -> None:
    run(VECTORS, RunSettings(3, "kmeans", device="cpu", calibrate=False), tmp_path / "run")
    for name in method_names():
        card = method_class(name).card
        given = {"method": name, "calibrate": False}
        if "embeddings" not in card.accepts:
            continue
        if {name, card.starts_from if "embeddings" in card.starts_on else name} & LEARN_FEATURES:
            with pytest.raises(InputError, match=r"trains a backbone, and 'identity'.*leave --backbone out"):
                begin(VECTORS, backbone="identity", **given)
            with pytest.raises(InputError, match="leave --init out, "):
                begin(VECTORS, init=str(tmp_path / "run"), **given)
        else:
            assert begin(VECTORS, backbone="identity", **given).backbone.name == "identity"


def test_the_backbone_that_a_method_brings_is_no_option_to_leave_out() -> None:
    with pytest.raises(InputError, match="name another with --backbone, or leave --pretrain out"):
        begin(VECTORS, method="kmeans", pretrain="simclr")
    assert len(begin(VECTORS, method="kmeans", pretrain="simclr", backbone="mlp").plan.stages) == 2


@pytest.mark.parametrize("name", ["deepfinch", "dec", "scan", "cdc"])
def test_without_the_stage_before_it_a_method_must_train_something_of_its_answer(name: str) -> None:
    given = {"method": name, "pretrain": "none", "backbone": "identity", "calibrate": False}
    if name == "deepfinch":
        with pytest.raises(InputError, match=r"trains a backbone, and 'identity'.*leave --backbone out"):
            begin(VECTORS, **given)
    else:
        assert begin(VECTORS, **given).backbone.name == "identity"


@pytest.mark.parametrize(
    ("name", "epochs", "said"),
    [
        ("scan", {"scan.epochs": 0}, ["scan has 0 epochs: its groups come from random weights."]),
        ("scan3", {"scan.epochs": 0, "scan3.epochs": 0}, ["scan has 0 epochs: scan3 goes on with its random weights."]),
        ("scan3", {"scan.epochs": 1, "scan3.epochs": 0}, []),
        ("cdc", {"cdc.epochs": 0}, []),  # whose head begins as groups
        ("ae", {"ae.epochs": 0}, []),  # whose groups are of K-means; a note says that its backbone is random
    ],
)
def test_an_answer_of_random_weights_is_called_so(name: str, epochs: dict[str, int], said: list[str]) -> None:
    result = run(VECTORS, RunSettings(3, name, overrides=epochs, device="cpu", calibrate=False))
    assert [text for text in result.record["warnings"] if "random weights" in text] == said


@pytest.mark.parametrize("name", ["propos", "tcc"])
def test_a_head_and_its_average_are_trained_on_the_own_values_of_the_items(name: str) -> None:
    short = {f"{name}.epochs": 1}
    chosen = RunSettings(3, name, backbone="identity", overrides=short, device="cpu", calibrate=False)
    assert len(run(VECTORS, chosen).history.records) == 1


# STL-10's unlabelled images


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("method", ["cdc", "moco"])
def test_moco_learns_from_the_unlabelled_images_of_stl10_and_says_so(
    method: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path))
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for part, count in (("train", 8), ("test", 8), *([("unlabeled", 12)] if there else [])):
        RANDOM.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{part}_X.bin")
    settings = RunSettings(3, method=method, device="cpu", backbone="small-4")
    prepared = prepare("stl10", settings, None, resume=False, watch=Watch(dry=True))
    seen = {
        name_of(stage): [
            len(one.items) for one in plan_passes(stage, prepared.source.items, prepared.source.extra, 4, 1)
        ]
        for stage in prepared.plan.stages
    }
    assert seen == {"moco": [28 if there else 16]} | ({"cdc": [16]} if method == "cdc" else {})
    (note,) = (note for note in prepared.plan.notes if "unlabeled_X.bin" in note)
    assert note.startswith("moco: learns from the")
    assert ("alone" in note) == (not there)
    quiet = prepare(
        "stl10", replace(settings, method="cdc", pretrain="none"), None, resume=False, watch=Watch(dry=True)
    )
    assert not any("unlabeled_X.bin" in note for note in quiet.plan.notes)


def test_the_images_of_a_run_to_start_from_keep_their_size_and_another_is_refused(tmp_path: Path) -> None:
    start = RunSettings(2, "moco", epochs=1, backbone=TINY, device="cpu", calibrate=False)
    start = replace(start, overrides={"moco.batch_size": 12, "moco.queue": 12})
    run(IMAGES, start, tmp_path / "moco")
    on = RunSettings(2, "cdc", init=str(tmp_path / "moco"), device="cpu", preset="paper:stl10")
    on = replace(on, overrides={"cdc.hidden": 8, "cdc.cells": 4, "cdc.batch_size": 24, "cdc.sub_batch": 12})
    found = prepare(IMAGES, on, None, resume=False, watch=Watch(dry=True))
    assert found.source.items.spec.height == 16
    assert any("stay at 16x16 pixels" in note and "has 96 a side" in note for note in found.source.notes)
    with pytest.raises(InputError, match=r"--image-size is 32, but .* was trained on images of 16x16 pixels"):
        prepare(IMAGES, replace(on, image_size=32), None, resume=False, watch=Watch())
    same = prepare(IMAGES, replace(on, image_size=16), None, resume=False, watch=Watch(dry=True))
    assert not any("stay at" in note for note in same.source.notes)


def test_a_file_that_is_called_like_a_named_set_has_not_its_published_row(tmp_path: Path) -> None:
    file = tmp_path / "cifar20.npy"
    np.save(file, IMAGES)
    given = {
        "method": "cdc",
        "pretrain": "none",
        "device": "cpu",
        "backbone": TINY,
        "overrides": {"cdc.init": "random"},
    }
    for preset, rate in (("paper", 5e-5), ("paper:cifar20", 1e-5)):
        found = prepare(str(file), RunSettings(2, preset=preset, **given), None, resume=False, watch=Watch(dry=True))
        assert found.plan.method.backbone_rate == rate


def test_a_named_set_without_a_published_row_is_said_to_take_the_defaults() -> None:
    one = RunSettings(10, "cdc", pretrain="none", device="cpu", backbone=TINY, overrides={"cdc.init": "random"})
    for preset, said in (("paper", True), ("practical", False), ("paper:stl10", False)):
        found = prepare("digits", replace(one, preset=preset), None, resume=False, watch=Watch(dry=True))
        assert any("cdc has no published row of digits, only of cifar10, " in note for note in found.plan.notes) is said
