"""Model folders that somebody changed: sizes, kinds and shapes are refused before a net of them is made."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import make_blobs

from coterie.pipeline import run
from coterie.prediction.bank import load_bank
from coterie.prediction.model import load_model
from coterie.training.checkpoints import save_tree
from coterie.training.plan import RunSettings
from coterie.types import InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a small run over embeddings."""
    points = make_blobs(60, n_features=70, centers=3, random_state=0)[0].astype(np.float32)
    out = tmp_path_factory.mktemp("saved")
    run(points, RunSettings(n_clusters=3, epochs=1, calibrate=True, device="cpu"), out / "run")
    return out / "run" / "model"


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def put(model: Path, path: str, value: Any) -> None:
    content = json.loads((model / "manifest.json").read_text())
    *above, last = path.split(".")
    inside = content
    for part in above:
        inside = inside[part]
    inside[last] = value
    (model / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("spec.dim", 10**15),
        ("spec.dim", 10**6),
        ("spec.dim", 0),
        ("spec.dim", -70),
        ("spec.dim", 70.0),
        ("spec.dim", None),
        ("spec.kind", "images"),
        ("spec.low", "x"),
        ("n_clusters", 10**9),
        ("n_clusters", 10**6),
        ("n_clusters", 0),
        ("n_clusters", True),
        ("n_clusters", "three"),
        ("settings.hidden", 10**9),
        ("settings", [1]),
        ("calibration.hidden", 10**9),
        ("calibration.hidden", -1),
        ("calibration", {"hiden": 5}),
        ("calibration", 7),
        ("backbone", "small-100000"),
        ("backbone", "small-99999999999999999999"),
        ("backbone", "../../mlp"),
        ("backbone", "local-dir:/tmp"),
        ("backbone", "hf-hub:timm/resnet18.a1_in1k"),
        ("backbone", None),
        ("family", "photos"),
        ("row_norm", "l3"),
        ("format", "1"),
        ("method", None),
        ("method", "../x"),
    ],
)
def test_a_manifest_that_asks_for_what_the_weights_are_not_is_refused_without_memory(
    model: Path, entry: str, value: Any
) -> None:
    put(model, entry, value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        load_model(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB; imports of timm among them
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_images_of_no_height_are_refused(model: Path) -> None:
    for size in (-8, 0, 10**12):
        put(model, "spec", {"kind": "images", "channels": 1, "height": size, "width": 8})
        with pytest.raises(InputError, match="height"):
            load_model(model)


@pytest.mark.parametrize("text", ["[" * 2000 + "]" * 2000, '{"a": ' * 2000 + "1" + "}" * 2000, "", "\x00", "[1]", "5"])
def test_a_manifest_of_another_form_is_refused(model: Path, text: str) -> None:
    (model / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json is (missing|damaged)"):
        load_model(model)


def more(state: dict[str, torch.Tensor]) -> None:
    state["more"] = torch.zeros(2)


def fewer(state: dict[str, torch.Tensor]) -> None:
    del state["cluster.0.weight"]


def another_shape(state: dict[str, torch.Tensor]) -> None:
    state["cluster.0.weight"] = state["cluster.0.weight"][:, 1:].contiguous()


def turned(state: dict[str, torch.Tensor]) -> None:
    state["cluster.3.weight"] = state["cluster.3.weight"].T.contiguous()


def halves(state: dict[str, torch.Tensor]) -> None:
    state["mean"] = state["mean"].half()


def not_finite(state: dict[str, torch.Tensor]) -> None:
    state["cluster.0.weight"][0, 0] = float("nan")


@pytest.mark.parametrize("change", [more, fewer, another_shape, turned, halves, not_finite])
def test_weights_of_another_net_are_named(model: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = load_file(model / "weights.safetensors")
    change(state)
    save_file(state, model / "weights.safetensors")
    name = {more: "more", halves: "mean"}.get(change, "cluster")
    with pytest.raises(InputError, match=f"do not fit their manifest .*{name}"):
        load_model(model)


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "ood.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(model: Path, name: str, kind: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name) if kind == "pipe" else (model / name).mkdir()
    with pytest.raises(InputError, match=r"a named pipe|a folder|is damaged"):
        load_model(model)


def test_a_bank_with_entries_of_another_kind_is_refused(model: Path) -> None:
    path = model / "ood.safetensors"
    good = load_bank(path, 70)
    assert good is not None
    for change in (
        {"neighbours": 0},
        {"neighbours": "x"},
        {"means": good.means[:, 1:]},
        {"means": good.means * float("nan")},
        {"features": good.features.double()},
        {"features": good.features[0]},
        {"whitening": "x"},
    ):
        save_tree(path, vars(good) | change)
        with pytest.raises(InputError, match=r"ood\.safetensors is damaged"):
            load_bank(path, 70)
