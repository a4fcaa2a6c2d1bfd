from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from coterie.pipeline import RunResult, run
from coterie.prediction.model import load_model
from coterie.prediction.results import read_result
from coterie.training.plan import RunSettings
from coterie.types import InputError, Source


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """The folder of a small run on embeddings, and the run."""
    out = tmp_path_factory.mktemp("run") / "run"
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(3, 70))[np.arange(60) % 3] + rng.normal(size=(60, 70))).astype(np.float32)
    return out, run(data, RunSettings(n_clusters=3, epochs=1), out)


@pytest.fixture
def folder(done: tuple[Path, RunResult], tmp_path: Path) -> Path:
    """A copy of the run folder, to be damaged."""
    return Path(copytree(done[0], tmp_path / "run"))


def test_a_run_folder_and_its_model_folder_load_alike(done: tuple[Path, RunResult]) -> None:
    out, result = done
    for place in (out, out / "model"):
        model = load_model(place)
        assert torch.equal(model.predict(result.source).probabilities, result.assignments.probabilities)
        assert (model.k, model.method, model.spec) == (3, result.model.method, result.model.spec)
        assert not model.net.training
    assert np.array_equal(read_result(out / "result.parquet").heads["cal"], result.assignments.probabilities.numpy())


def test_what_a_net_does_to_its_input_is_kept(done: tuple[Path, RunResult], folder: Path) -> None:
    """Embeddings are cut off, images looked at in their middle, as when the model was fitted."""
    model, source = load_model(folder), done[1].source
    model.net.limit, model.net.enlarge = 0.5, 1.25
    cut_off = model.predict(source).probabilities
    assert not torch.equal(cut_off, done[1].assignments.probabilities)
    model.save(folder / "model")
    again = load_model(folder)
    assert torch.equal(again.predict(source).probabilities, cut_off)
    assert again.net.enlarge == 1.25


def test_prediction_reports_its_progress_and_gives_the_embedding_when_asked(done: tuple[Path, RunResult]) -> None:
    _, result = done
    seen: list[int] = []
    found = result.model.predict(result.source, embedding=True, progress=seen.append)
    assert sum(seen) == 60
    assert found.embedding is not None
    assert found.embedding.shape == (60, 70)
    assert result.model.predict(result.source).embedding is None


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def drop(path: Path, entry: str) -> None:
    content = json.loads(path.read_text())
    del content[entry]
    path.write_text(json.dumps(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def rename_weight(path: Path) -> None:
    state = load_file(path)
    state["stranger"] = state.pop(next(iter(state)))
    save_file(state, path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another format": (lambda m: change(m / "manifest.json", format=99), "has format 99, this version of coterie"),
    "a pickle": (lambda m: (m / "old.pkl").write_bytes(pickle.dumps(1)), r"old\.pkl, a pickle"),
    "a torch file": (lambda m: torch.save({}, m / "weights.pt"), r"weights\.pt, a pickle"),
    "no manifest": (lambda m: (m / "manifest.json").unlink(), r"manifest\.json is (missing|damaged)"),
    "half a manifest": (lambda m: cut(m / "manifest.json"), r"manifest\.json is (missing|damaged)"),
    "another manifest": (lambda m: (m / "manifest.json").write_text("[1]"), r"manifest\.json is (missing|damaged)"),
    "no method in it": (lambda m: drop(m / "manifest.json", "method"), r"manifest\.json is (missing|damaged)"),
    "no spec in it": (lambda m: drop(m / "manifest.json", "spec"), r"manifest\.json is (missing|damaged)"),
    "a strange spec": (lambda m: change(m / "manifest.json", spec={"kin": 1}), r"manifest\.json is (missing|damaged)"),
    "an unknown method": (lambda m: change(m / "manifest.json", method="cdd"), "'cdd'; did you mean 'cdc'"),
    "another k": (lambda m: change(m / "manifest.json", n_clusters=4), "do not fit their manifest"),
    "no weights": (lambda m: (m / "weights.safetensors").unlink(), "do not fit their manifest"),
    "half the weights": (lambda m: cut(m / "weights.safetensors"), "do not fit their manifest"),
    "other weights": (lambda m: rename_weight(m / "weights.safetensors"), "do not fit their manifest"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_cannot_be_trusted_is_refused_in_a_sentence_that_names_its_folder(
    damage: str, folder: Path
) -> None:
    harm, message = DAMAGES[damage]
    harm(folder / "model")
    with pytest.raises(InputError, match=message) as caught:
        load_model(folder)
    assert damage == "an unknown method" or str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "missing", tmp_path / "file", tmp_path):
        with pytest.raises(InputError, match=str(place)):
            load_model(place)


def test_a_model_of_images_loads_without_what_only_training_needs(digits: Source, tmp_path: Path) -> None:
    settings = RunSettings(n_clusters=3, method="moco", epochs=1, backbone="small-4", family="glyph", calibrate=False)
    result = run(digits.items.array, settings, tmp_path / "run")
    kept = {key.split(".")[0] for key in load_file(tmp_path / "run" / "model" / "weights.safetensors")}
    assert kept == {"mean", "std", "backbone", "groups"}
    found = load_model(tmp_path / "run").predict(digits)
    assert torch.equal(found.probabilities, result.assignments.probabilities)
    assert result.model.family == "glyph"
