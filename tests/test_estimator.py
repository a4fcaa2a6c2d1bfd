from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import TensorDataset

import coterie
from coterie import Clusterer, calibrate, load
from coterie.data import open_source
from coterie.methods.cdc import CDC
from coterie.networks.features import stream
from coterie.types import InputError

SMALL = {
    "backbone": "small-4",
    "settings": {
        "moco.epochs": 1,
        "moco.batch_size": 32,
        "moco.queue": 64,
        "moco.projector_hidden": 32,
        "cdc.epochs": 2,
        "cdc.hidden": 24,
        "cdc.init": "kmeans",
    },
}
DIGITS, CLASSES = load_digits(return_X_y=True)


def blobs(n: int = 80, d: int = 8, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_blobs(n, n_features=d, centers=k, random_state=seed)
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted() -> Clusterer:
    """Images in 10 groups: MoCo-v2, then CDC."""
    return Clusterer(10, random_state=0, **SMALL).fit(pictures())


def pictures(n: int = 96) -> np.ndarray:
    return (DIGITS[:n].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)


class TwoGroups(Clusterer):
    """scikit-learn sets `n_clusters` of some estimators to 1, of which there is nothing to say; here it becomes 2."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, 2 if name == "n_clusters" and value == 1 else value)


ONE_GROUP = "the check asks for a single group, and n_clusters < 2 is an error here"
EXPECTED = {
    "check_dont_overwrite_parameters": ONE_GROUP,
    "check_fit2d_1feature": ONE_GROUP,
    "check_fit2d_predict1d": ONE_GROUP,
    "check_methods_subset_invariance": ONE_GROUP,
}


@parametrize_with_checks([Clusterer()], expected_failed_checks=lambda estimator: EXPECTED)
@pytest.mark.filterwarnings("ignore:.*in a mean group")  # some checks have 10 items for the 8 groups of the default
@pytest.mark.usefixtures("unchecked_types")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.usefixtures("unchecked_types")
def test_scikit_learns_checks_of_one_group_pass_with_two(name):
    getattr(estimator_checks, name)("Clusterer", TwoGroups())


@pytest.mark.parametrize("d", [2, 50])
@pytest.mark.parametrize("k", [3, 8])
def test_blobs_are_found(d, k):
    angles = np.linspace(0, 2 * np.pi, k, endpoint=False)
    circle = 10 * np.stack([np.cos(angles), np.sin(angles)], 1)
    x, y = make_blobs(200, n_features=d, centers=circle if d == 2 else k, random_state=0)
    model = Clusterer(k, random_state=0).fit(x)
    assert adjusted_rand_score(y, model.labels_) > 0.9
    assert (model.confidence_ > 0.5).mean() > 0.9


def test_pixels_as_embeddings_are_sorted_better_than_by_k_means():
    rows = slice(0, 600)
    model = Clusterer(10, random_state=0).fit(DIGITS[rows])
    by_k_means = KMeans(10, n_init=10, random_state=0).fit_predict(DIGITS[rows])
    assert adjusted_rand_score(CLASSES[rows], model.labels_) > adjusted_rand_score(CLASSES[rows], by_k_means) - 0.02


def test_what_is_predicted_for_the_training_data_is_what_fit_said(fitted):
    probabilities = fitted.predict_proba(pictures())
    assert (fitted.predict(pictures()) == fitted.labels_).all()
    assert (probabilities.argmax(1) == fitted.labels_).all()
    assert (probabilities.max(1) == fitted.confidence_).all()
    assert np.abs(probabilities.astype(np.float64).sum(1) - 1).max() < 1e-5
    assert probabilities.shape == (96, 10)


def test_order_and_company_do_not_change_a_prediction(fitted):
    whole = fitted.predict_proba(pictures(300))
    rows = np.random.default_rng(0).permutation(300)
    assert (fitted.predict_proba(pictures(300)[rows]) == whole[rows]).all()
    assert (fitted.predict_proba(pictures(300)[rows[:7]]) == whole[rows[:7]]).all()


def test_predictions_that_overlap_leave_each_other_the_net_of_evaluation(fitted):
    """As in two threads of a service that fitted its model itself."""
    net, items = fitted.model_.net, open_source(pictures(24)).items
    alone = torch.cat(list(stream(net, items, net.backbone, size=8)))
    first, second = (stream(net, items, net.backbone, size=8) for _ in range(2))
    next(first)
    begun = next(second)
    assert len(list(first)) == 2
    assert torch.equal(torch.cat([begun, *second]), alone)


def test_the_same_seed_gives_the_same_labels_and_another_seed_need_not():
    x, _ = blobs(k=6, d=2)
    first, again, other = (Clusterer(6, random_state=seed).fit(x) for seed in (3, 3, 4))
    assert (first.predict_proba(x) == again.predict_proba(x)).all()
    assert (first.predict_proba(x) != other.predict_proba(x)).any()


def test_images_are_repeatable(fitted):
    again = Clusterer(10, random_state=0, **SMALL).fit(pictures())
    assert (again.labels_ == fitted.labels_).all()
    assert (again.confidence_ == fitted.confidence_).all()


@pytest.mark.parametrize("what", ["images", "embeddings"])
def test_a_saved_model_predicts_bit_for_bit_the_same(fitted, tmp_path, what):
    x, model = pictures(120), fitted
    if what == "embeddings":
        x, _ = blobs()
        model = Clusterer(3, random_state=0).fit(x)
    assert model.save(tmp_path / "groups") == tmp_path / "groups"
    loaded = load(tmp_path / "groups")
    assert (loaded.predict_proba(x) == model.predict_proba(x)).all()
    assert (loaded.labels_ == model.labels_).all()
    assert loaded.labels_.dtype == model.labels_.dtype
    assert (loaded.confidence_ == model.confidence_).all()
    assert loaded.history_ == model.history_
    assert loaded.record_ == model.record_
    assert loaded.result_.ids == model.result_.ids
    assert repr(loaded.result_).startswith(f"<ResultTable: {len(model.result_.ids)} items in ")
    assert {file.suffix for file in (tmp_path / "groups" / "model").iterdir()} == {".safetensors", ".json"}
    again = load(loaded.save(tmp_path / "once more"))
    assert (again.predict_proba(x) == model.predict_proba(x)).all()


def test_a_model_is_saved_again_where_a_save_ended_early(tmp_path):
    """After a full disk, say: the same model was refused as one with other groups, or for other files."""
    model = Clusterer(3, "kmeans", random_state=0, calibrate=False).fit(blobs()[0])
    whole, out = model.save(tmp_path / "whole"), tmp_path / "groups"
    in_order = ("model/weights.safetensors", "model/ood.safetensors", "model/manifest.json", "result.parquet")
    for left in range(len(in_order) + 1):
        (out / "model").mkdir(parents=True)
        for name in in_order[:left]:
            shutil.copyfile(whole / name, out / name)
        model.save(out)
        assert {file.relative_to(out) for file in out.rglob("*")} == {
            file.relative_to(whole) for file in whole.rglob("*")
        }
        assert (load(out).labels_ == model.labels_).all()
        shutil.rmtree(out)
    (out / "model").mkdir(parents=True)
    (out / "notes.txt").touch()
    with pytest.raises(InputError, match="holds other files"):
        model.save(out)


def test_a_model_may_be_pickled_by_its_owner(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    assert (copy.predict_proba(pictures()) == fitted.predict_proba(pictures())).all()


def test_a_clusterer_is_made_cloned_and_pickled_without_torch():
    code = """
import pickle, sys
from sklearn.base import clone
from coterie import Clusterer
model = pickle.loads(pickle.dumps(clone(Clusterer(3, settings={"cells": 40}))))
assert model.get_params()["settings"] == {"cells": 40}
sys.exit(bool({"torch", "pydantic", "accelerate", "timm", "matplotlib"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_notebook_completes_the_public_names():
    assert set(coterie.__all__) <= set(dir(coterie))


def test_floats_are_scaled_for_a_part_as_for_the_whole():
    """Promise 1 where the pixels' range is that of the whole array."""
    x = pictures().astype(np.float32) * 3.7 - 100
    model = Clusterer(10, random_state=0, **SMALL).fit(x)
    assert (model.predict(x) == model.labels_).all()
    assert (model.predict(x[40:45]) == model.labels_[40:45]).all()


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("seed", [None, 0, np.int64(5), np.random.RandomState(0), np.random.default_rng(0)])
def test_random_state_may_be_all_that_scikit_learn_allows(seed):
    x, y = blobs()
    model = Clusterer(np.int64(3), random_state=seed, epochs=np.int64(3)).fit(x)
    assert adjusted_rand_score(y, model.labels_) == 1
    if isinstance(seed, int | np.integer):
        assert model.record_["seed"] == seed


def test_settings_reach_the_method_in_three_ways():
    x, _ = blobs()
    by_name = Clusterer(3, settings={"cells": 40}, epochs=1, random_state=0).fit(x)
    by_path = Clusterer(3, settings={"cdc.cells": 40}, epochs=1, random_state=0).fit(x)
    assert (by_name.predict_proba(x) == by_path.predict_proba(x)).all()
    method = CDC(cells=40, hidden=20, batch_size=80, sub_batch=40, epochs=1)
    by_object = Clusterer(3, method=method, random_state=0).fit(x)
    for model in (by_name, by_path, by_object):
        assert model.record_["stages"][0]["settings"]["cells"] == 40
    assert by_object.record_["stages"][0]["settings"]["hidden"] == 20


def test_parameters_are_scikit_learns():
    model = Clusterer(4, method=CDC(cells=40), settings={"cells": 7})
    assert clone(model).get_params() == model.get_params()
    assert clone(model).method == CDC(cells=40)
    assert model.set_params(n_clusters=5, random_state=1).n_clusters == 5
    with pytest.raises(ValueError, match="Invalid parameter 'clusters'"):
        model.set_params(clusters=5)


@pytest.mark.parametrize("form", ["array", "channels", "tensor", "dataset", "list", "npy", "folder"])
def test_images_come_in_many_forms(fitted, tmp_path, form):
    from PIL import Image

    x = pictures(40)
    given: object = x
    if form == "channels":
        given = x[..., None]
    elif form == "tensor":
        given = torch.from_numpy(x)[:, None]
    elif form == "dataset":
        given = TensorDataset(torch.from_numpy(x)[:, None], torch.zeros(40))
    elif form == "list":
        given = list(x)
    elif form == "npy":
        np.save(tmp_path / "x.npy", x)
        given = tmp_path / "x.npy"
    elif form == "folder":
        for row, pixels in enumerate(x):
            Image.fromarray(pixels).save(tmp_path / f"{row:02d}.png")
        given = str(tmp_path)
    assert (fitted.predict_proba(given) == fitted.predict_proba(pictures(96))[:40]).all()
    if form in ("dataset", "folder"):
        model = Clusterer(3, random_state=0, **SMALL).fit(given)
        assert (model.predict(given) == model.labels_).all()


@pytest.mark.parametrize("form", ["array", "list", "tensor", "bfloat16", "memory map", "npy", "frame", "dataset"])
def test_embeddings_come_in_many_forms(tmp_path, form):
    x, y = blobs()
    np.save(tmp_path / "x.npy", x)
    given: object = x
    if form == "list":
        given = x.tolist()
    elif form in ("tensor", "bfloat16"):
        given = torch.from_numpy(x).to(torch.bfloat16 if form == "bfloat16" else torch.float64)
    elif form == "memory map":
        given = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif form == "npy":
        given = tmp_path / "x.npy"
    elif form == "frame":
        given = pytest.importorskip("pandas").DataFrame(x, columns=list("abcdefgh"))
    elif form == "dataset":
        given = TensorDataset(torch.from_numpy(x))
    model = Clusterer(3, random_state=0, epochs=3).fit(given)
    assert adjusted_rand_score(y, model.labels_) == 1
    assert (model.predict(given) == model.labels_).all()
    assert model.embedding_.shape[0] == len(x)
    if form not in ("npy", "dataset"):
        assert model.n_features_in_ == 8


def test_a_fit_on_images_forgets_the_width_of_embeddings_before():
    model = Clusterer(2, "kmeans", random_state=0, calibrate=False).fit(np.random.default_rng(0).normal(size=(20, 8)))
    assert model.n_features_in_ == 8
    model.fit(np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8))
    assert not hasattr(model, "n_features_in_")


def test_three_lines_are_enough(tmp_path):
    """As in the README: fit a named set, save, and use the groups elsewhere."""
    model = Clusterer(n_clusters=10, random_state=0, epochs=1, **SMALL).fit("digits")
    model.save(tmp_path)
    labels = load(tmp_path).predict("digits")
    assert (labels == model.labels_).all()
    assert len(labels) == 1797


def test_what_a_fit_leaves_behind(fitted):
    assert fitted.labels_.shape == (96,)
    assert set(fitted.labels_) <= set(range(10))
    assert ((fitted.confidence_ >= 0.1) & (fitted.confidence_ <= 1)).all()
    assert fitted.embedding_.shape == (96, 32)
    assert [(row["stage"], row["epoch"]) for row in fitted.history_] == [("moco", 1), ("cdc", 1), ("cdc", 2)]
    assert set(fitted.result_.heads) == {"cal", "clu"}
    assert fitted.result_.ids == [str(row) for row in range(96)]
    assert fitted.record_["status"] == "done"
    assert fitted.record_["source"]["fingerprint"] == open_source(pictures()).fingerprint


def test_output_is_a_run_folder(tmp_path):
    x, _ = blobs()
    model = Clusterer(3, random_state=0, epochs=1, output=tmp_path / "run").fit(x)
    assert (load(tmp_path / "run").predict_proba(x) == model.predict_proba(x)).all()
    assert (load(tmp_path / "run").labels_ == model.labels_).all()
    with pytest.raises(InputError, match="already holds a run"):
        model.fit(x)
    follower = Clusterer(3, random_state=0, epochs=1, init=tmp_path / "run").fit(x)
    assert follower.record_["backbone"]["why"] == f"of {tmp_path / 'run'}"


def test_the_data_are_not_changed():
    x, _ = blobs()
    before = x.copy()
    Clusterer(3, epochs=1).fit(x).predict(x)
    assert (x == before).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 1}, "at least 2 groups"),
        ({"n_clusters": 81}, "has only 80 items"),
        ({"n_clusters": "many"}, r"n_clusters is 'many'"),
        ({"method": "cdd"}, "did you mean 'cdc'"),
        ({"preset": "papper"}, "Unknown preset 'papper'"),
        ({"settings": {"cels": 40}}, "did you mean cdc.cells"),
        ({"settings": {"cdc.batch_size": 81}}, "has only 80 items"),
        ({"backbone": "resnet18"}, "reads images"),
        ({"device": "tpu"}, "Unknown device 'tpu'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"init": "nowhere"}, "There is no model at nowhere"),
        ({"init": 3}, "init is 3: it takes a path"),
        ({"weights": ["a.pt"]}, r"weights is \['a.pt'\]: it takes a path"),
        ({"output": 3}, "output is 3: it takes a path"),
        ({"output": ""}, "output is '', which no path can be"),
        ({"output": "a\0b"}, "which no path can be"),
        ({"output": "b" * 300}, "cannot be looked up"),
        ({"settings": [1]}, r"settings is \[1\]: it takes a mapping"),
        ({"settings": "cells=40"}, "settings is 'cells=40': it takes a mapping"),
        ({"settings": {1: 2}}, "settings.* is 1: it takes text"),
        ({"columns": 3}, "columns is 3"),
        ({"random_state": "a"}, "random_state is 'a': it takes a whole number or None"),
        ({"random_state": 1.5}, "random_state is 1.5: it takes a whole number or None"),
        ({"random_state": -1}, "random_state is -1: it must be at least 0"),
        ({"random_state": True}, "random_state is True: it takes a whole number or None"),
        ({"method": np.zeros(3)}, r"method is array\(\[0., 0., 0.\]\): give a method's name"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_wrong_parameters_are_named(parameters, message):
    x, _ = blobs()
    with pytest.raises(InputError, match=message):
        Clusterer(**{"n_clusters": 3, **parameters}).fit(x)


def test_a_model_refuses_data_of_another_form(fitted):
    with pytest.raises(InputError, match="holds embeddings, but the model was fitted on images"):
        fitted.predict(DIGITS)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("given", [None, 3, "", "a\0b", ["x"]])
def test_what_is_no_path_is_no_folder(fitted, given):
    for call in (load, fitted.save):
        with pytest.raises(InputError, match=r"it takes a path|no path can be"):
            call(given)


@pytest.mark.usefixtures("unchecked_types")
def test_arguments_of_other_types_are_named(fitted):
    with pytest.raises(InputError, match="Unknown out-of-distribution score None"):
        fitted.ood_score(pictures(8), score=None)
    with pytest.raises(InputError, match=r"settings is \[1\]: it takes a mapping"):
        calibrate(blobs()[0], blobs()[1], settings=[1])


def test_folders_that_are_no_models_are_refused(fitted, tmp_path):
    with pytest.raises(InputError, match="There is no model"):
        load(tmp_path / "nowhere")
    model = Path(fitted.save(tmp_path)) / "model"
    (model / "extra.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds extra\.pt, a pickle"):
        load(tmp_path)


@pytest.mark.parametrize(
    "given", [np.full((9, 8, 8), 7, np.uint8), [np.zeros((8 + i, 8, 3), np.uint8) for i in range(4)]]
)
def test_pictures_that_are_all_the_same_are_refused_before_training(given: Any) -> None:
    with pytest.raises(InputError, match=r"All . pictures of .* are the same"):
        Clusterer(2, **SMALL).fit(given)


def test_lists_of_pictures_and_paths_are_fitted_and_predicted_in_their_order(fitted, tmp_path):
    from PIL import Image

    pictured = [Image.fromarray(pixels) for pixels in pictures(40)]
    for row, picture in enumerate(pictured):
        picture.save(tmp_path / f"{39 - row:02d}.png")
    expected = fitted.predict_proba(pictures(96))[:40]
    assert (fitted.predict_proba(pictured) == expected).all()
    assert (fitted.predict_proba([tmp_path / f"{39 - row:02d}.png" for row in range(40)]) == expected).all()
    model = Clusterer(2, random_state=0, **SMALL).fit(pictured)
    assert (model.predict(pictured) == model.labels_).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.full((2, 8), np.nan), "NaN: row 0, column 0"),
        (np.zeros((2, 7)), "X has 7 features"),
        (np.zeros((2, 8), complex), "Complex data"),
        (np.zeros((3, 20, 20)), "holds images, but the model was fitted on embeddings"),
        (np.zeros(8), r"one item is array\[None\]"),
        (None, "None is no source"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "ood_score"])
def test_what_a_model_cannot_read_is_named(rows: Any, message: str, method: str) -> None:
    x, _ = blobs()
    model = Clusterer(3, random_state=0, epochs=1).fit(x)
    with pytest.raises(InputError, match=message):
        getattr(model, method)(rows)


def test_settings_of_the_run_are_settings_too(tmp_path):
    for number, picture in enumerate(pictures(12)):
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(InputError, match=r"1 of the 13 images .* max_skipped"):
        Clusterer(3, "kmeans", calibrate=False, settings={"max_skipped": 0}).fit(tmp_path)
    with pytest.raises(InputError, match="max_skipped is 2: it must be at most 1"):
        Clusterer(3, "kmeans", calibrate=False, settings={"max_skipped": 2}).fit(tmp_path)
    x, _ = blobs()
    model = Clusterer(3, "kmeans", random_state=0, calibrate=False, settings={"store_embedding": True})
    model.set_params(output=tmp_path / "run").fit(x)
    assert np.array_equal(load(tmp_path / "run").result_.embedding, model.embedding_)


def test_pictures_that_cannot_be_read_are_named_by_fit_and_by_each_answer(tmp_path):
    for number, picture in enumerate(pictures(24)):
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
    (tmp_path / "bad.png").write_text("no picture")
    said = r"^1 unreadable picture was left out, .* \(bad\.png: not an image\)\.$"
    with pytest.warns(UserWarning, match=said):
        model = Clusterer(3, "kmeans", random_state=0, calibrate=False).fit(tmp_path)
    assert len(model.labels_) == len(model.result_.ids) == 24
    for answer in (model.predict, model.predict_proba, model.ood_score):
        with pytest.warns(UserWarning, match=said):
            assert len(answer(tmp_path)) == 24
