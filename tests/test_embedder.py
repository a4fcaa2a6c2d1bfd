from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.pipeline import Pipeline
from sklearn.utils import estimator_checks

from coterie import Clusterer, Embed, embed, load
from coterie.encoders import weights as weights_of
from coterie.encoders.catalogue import WHEEL
from coterie.encoders.loading import Encoder
from coterie.types import InputError
from helpers.encoder_weights import random_weights

SMALL = "test_vit"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return random_weights(tmp_path_factory.mktemp("weights"), SMALL)


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    """Thirty pictures in three colours."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(20, 60, (30, 24, 24, 3))
    pictures[np.arange(30), :, :, np.arange(30) % 3] += 160
    return pictures.astype(np.uint8)


def test_a_pipeline_of_embed_and_clusterer(colours, weights):
    steps = [("embed", Embed(SMALL, weights=weights)), ("cluster", Clusterer(3, random_state=0, epochs=1))]
    pipeline = Pipeline(steps).fit(colours)
    labels = pipeline.predict(colours)
    np.testing.assert_array_equal(labels, pipeline["cluster"].labels_)
    assert set(labels) == {0, 1, 2}
    groups = [set(labels[colour::3]) for colour in range(3)]
    assert all(len(group) == 1 for group in groups), groups
    assert pipeline.predict_proba(colours).shape == (30, 3)
    again = clone(pipeline).set_params(embed__pooling="mean")
    assert again["embed"].pooling == "mean"


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({"weights": weights}, "weights is .*: it takes a path") for weights in (3, ["a"], True)),
        *(({"output": output}, "output is .*: it takes a path") for output in (3, [1])),
        *(({"image_size": size}, "image_size is .*: it takes a whole number") for size in ("x", [32], 32.0, True)),
        *(({"max_skipped": part}, "max_skipped is .*: it takes a number from 0 to 1") for part in (None, "x", 2)),
        *(({name: np.array([1, 2])}, f"{name} is .*: it takes a text") for name in ("pooling", "precision", "engine")),
        ({"squash": "yes"}, "squash is 'yes': it takes True or False"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(colours, weights, given, said):
    with pytest.raises(InputError, match=said):
        embed(colours, SMALL, **{"weights": weights, **given})


def test_new_pictures_are_embedded_as_those_of_the_fit(colours, weights):
    """One alone, two that are the same, and dark ones of 16 bits, whose own largest value is another."""
    wide = colours.astype(np.uint16) * 256
    wide[:2] //= 16
    for pictures in (wide, colours):
        step = Embed(SMALL, weights=weights)
        whole = step.fit_transform(pictures)
        for rows in ([0, 1], [4], [5, 5]):
            np.testing.assert_allclose(step.transform(pictures[rows]), whole[rows], atol=1e-4)
    steps = [("embed", Embed(SMALL, weights=weights)), ("cluster", Clusterer(3, "kmeans", calibrate=False))]
    pipeline = Pipeline(steps).fit(colours)
    assert pipeline.predict(colours[:1])[0] == pipeline["cluster"].labels_[0]
    with pytest.raises(InputError, match="give it pictures"):
        step.transform(whole)


def test_one_picture_is_enough_and_copies_are_no_fault(colours, weights, tmp_path):
    """A single one was refused as too few, after the message for one without an axis had asked for array[None]."""
    whole = embed(colours[:2], SMALL, weights=weights)
    with pytest.raises(InputError, match=r"give array\[None\]"):
        embed(colours[0], SMALL, weights=weights)
    np.testing.assert_array_equal(Embed(SMALL, weights=weights).transform(colours[0][None]), whole[:1])
    np.testing.assert_array_equal(embed(colours[[1, 1, 1]], SMALL, weights=weights), whole[[1, 1, 1]])
    (tmp_path / "photos").mkdir()
    Image.fromarray(colours[0]).save(tmp_path / "photos" / "a.png")
    np.testing.assert_array_equal(
        embed(tmp_path / "photos", SMALL, weights=weights, output=tmp_path / "features"), whole[:1]
    )
    with pytest.raises(InputError, match="clustering needs at least 2"):
        Clusterer(2).fit(tmp_path / "features")
    with pytest.raises(InputError, match="at least 2 are needed"):
        Clusterer(2, encoder=SMALL, weights=weights).fit(tmp_path / "photos")


def test_clusterer_with_an_encoder(colours, weights, tmp_path):
    model = Clusterer(3, encoder=SMALL, weights=weights, random_state=0, epochs=1, output=tmp_path / "run").fit(colours)
    np.testing.assert_array_equal(model.predict(colours), model.labels_)
    np.testing.assert_array_equal(load(tmp_path / "run").predict_proba(colours[:5]), model.predict_proba(colours[:5]))
    assert model.record_["source"]["spec"]["encoding"]["encoder"] == SMALL
    by_hand = Clusterer(3, random_state=0, epochs=1).fit(embed(colours, SMALL, weights=weights))
    np.testing.assert_array_equal(by_hand.labels_, model.labels_)


def test_several_runs_embed_once(colours, weights, tmp_path, monkeypatch):
    seen, whole = [], Encoder.__call__

    def counted(self, pixels):
        seen.extend([len(pixels)] if len(pixels) > 1 else [])  # one picture is shown when an encoder is loaded
        return whole(self, pixels)

    monkeypatch.setattr(Encoder, "__call__", counted)
    given = {"encoder": SMALL, "weights": weights, "random_state": 0, "calibrate": False}
    one = Clusterer(3, "kmeans", **given).fit(colours)
    alone = len(seen)
    models = [Clusterer(3, "kmeans", runs=3, **given).fit(colours)]
    models.append(Clusterer(3, "kmeans", runs=2, output=tmp_path / "runs", **given).fit(colours))
    assert alone > 0
    assert len(seen) == 3 * alone
    assert all(model.record_["source"]["spec"] == one.record_["source"]["spec"] for model in models)
    np.testing.assert_array_equal(models[0].predict(colours), models[0].labels_)


def test_method_auto_takes_the_encoder_at_hand_and_a_named_method_none():
    from coterie.running.deciding import resolve

    auto = resolve(Clusterer(3, "auto", random_state=0)._settings())
    assert (auto.method, auto.encoder) == ("cdc", "auto")
    assert resolve(Clusterer(3)._settings()).encoder == "none"
    assert resolve(Clusterer(3, "auto", encoder="none")._settings()).encoder == "none"
    assert resolve(Clusterer(3, "auto", backbone="small-4")._settings()).encoder == "none"
    assert resolve(auto) == auto
    of_a_net = [{"preset": "paper"}, {"settings": {"moco.epochs": 1}}, {"settings": {"views.flip": 0.0}}]
    for given in (*of_a_net, {"pretrained": True}, {"weights": "x.pth"}, {"init": "run"}, {"image_size": 32}):
        assert resolve(Clusterer(3, "auto", **given)._settings()).encoder == "none", given


def test_of_many_pictures_auto_takes_the_quick_encoder_as_fit_does(colours, monkeypatch):
    better, quick = weights_of.PREFERRED["cpu"][0], WHEEL
    monkeypatch.setattr(weights_of, "available", lambda: [better, quick])
    monkeypatch.setattr(weights_of, "QUICK_FROM", len(colours) - 1)
    assert Embed(image_size=32).fit(colours).encoding_.encoder == quick
    with pytest.raises(InputError, match="holds embeddings, and an encoder reads pictures: there is nothing to embed"):
        embed(np.eye(30))


def test_embed_says_what_it_is(colours, weights):
    step = Embed(SMALL, weights=weights)
    with pytest.raises(NotFittedError):
        step.get_feature_names_out()
    assert step.fit(colours).encoding_.encoder == SMALL
    assert step.get_feature_names_out().tolist()[:2] == ["embed0", "embed1"]
    np.testing.assert_array_equal(step.transform(colours), step.fit_transform(colours))
    np.testing.assert_array_equal(step.transform(colours), embed(colours, SMALL, weights=weights))
    assert clone(step).get_params() == step.get_params()


def test_embed_refuses_what_is_no_picture(weights):
    with pytest.raises(InputError, match="the encoder test_vit reads pictures"):
        Embed(SMALL, weights=weights).fit(np.zeros((4, 6)) + np.arange(6) * np.arange(4)[:, None])


CHECKS = (
    *("check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr"),
    *("check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_set_params"),
    *("check_get_params_invariance", "check_mixin_order"),
)


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks_that_need_no_table(name):
    """scikit-learn checks nothing by itself of an estimator that takes no table of numbers, as the tags here say."""
    getattr(estimator_checks, name)("Embed", Embed())


def test_scikit_learn_knows_that_there_is_nothing_else_to_check():
    with pytest.warns(SkipTestWarning, match="three_d_array=True"):
        done = estimator_checks.check_estimator(Embed())
    assert {check["status"] for check in done} == {"passed"}
